# A stand-in for the parts of nixpkgs' lib that the guest modules use, small
# enough to read: options with types, definitions with priorities and order,
# and a fixed point. Unknown options, wrong types and clashing definitions are
# errors, as they are there. Used where nixpkgs cannot be had; with nixpkgs at
# hand the same tests take the real one.
let
  inherit (builtins)
    all
    attrNames
    attrValues
    concatLists
    concatMap
    concatStringsSep
    elem
    filter
    foldl'
    functionArgs
    head
    isAttrs
    isBool
    isFunction
    isInt
    isList
    isPath
    isString
    length
    listToAttrs
    map
    mapAttrs
    removeAttrs
    sort
    stringLength
    substring
    ;

  property = type: isAttrs type && type ? _property;
  mkOverride = priority: content: {
    _property = "override";
    inherit priority content;
  };
  mkOrder = order: content: {
    _property = "order";
    inherit order content;
  };
  mkIf = condition: content: {
    _property = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _property = "merge";
    inherit contents;
  };

  show = loc: concatStringsSep "." loc;

  # Unfolds the conditions of a definition: { value, priority, order, file } each.
  discharge =
    def:
    if !(property def.value) then
      [ def ]
    else if def.value._property == "if" then
      if def.value.condition then discharge (def // { value = def.value.content; }) else [ ]
    else if def.value._property == "merge" then
      concatMap (value: discharge (def // { inherit value; })) def.value.contents
    else if def.value._property == "override" then
      discharge (
        def
        // {
          value = def.value.content;
          inherit (def.value) priority;
        }
      )
    else
      discharge (
        def
        // {
          value = def.value.content;
          inherit (def.value) order;
        }
      );

  # Definitions of the strongest priority, in order.
  strongest =
    defs:
    let
      flat = concatMap discharge defs;
      best = foldl' (low: def: if def.priority < low then def.priority else low) 9999 flat;
    in
    sort (a: b: a.order < b.order) (filter (def: def.priority == best) flat);

  mergeOption =
    loc: option: given:
    let
      defaults =
        if option ? default then
          [
            {
              value = option.default;
              priority = 1500;
              order = 1000;
              file = "the default";
            }
          ]
        else
          [ ];
      defs = strongest (given ++ defaults);
      wrong = filter (def: !(option.type.check def.value)) defs;
    in
    if defs == [ ] then
      throw "option ${show loc} is used but not defined"
    else if (option.readOnly or false) && length given > 1 then
      throw "option ${show loc} is read-only and set ${toString (length given)} times"
    else if wrong != [ ] then
      throw "option ${show loc} is not ${option.type.name} in ${(head wrong).file}"
    else
      option.type.merge loc defs;

  mergeEqual =
    loc: defs:
    if all (def: def.value == (head defs).value) defs then
      (head defs).value
    else
      throw "option ${show loc} has definitions that clash";

  simple = name: check: {
    inherit name check;
    merge = mergeEqual;
  };

  types = rec {
    anything = simple "anything" (_: true);
    bool = simple "a boolean" isBool;
    int = simple "an integer" isInt;
    str = simple "a string" isString;
    path = simple "a path" (value: isPath value || (isString value && substring 0 1 value == "/"));
    package = simple "a package" (value: isAttrs value && (value ? outPath));
    lines = {
      name = "lines";
      check = isString;
      merge = _: defs: concatStringsSep "\n" (map (def: def.value) defs);
    };
    either = a: b: {
      name = "${a.name} or ${b.name}";
      check = value: a.check value || b.check value;
      merge = loc: defs: if all (def: a.check def.value) defs then a.merge loc defs else b.merge loc defs;
    };
    listOf = type: {
      name = "a list, each ${type.name}";
      check = value: isList value && all type.check value;
      merge = _: defs: concatLists (map (def: def.value) defs);
    };
    attrsOf = type: {
      name = "a set, each ${type.name}";
      check = isAttrs;
      merge =
        loc: defs:
        let
          names = attrNames (foldl' (all: def: all // def.value) { } defs);
          ofName =
            name:
            concatMap (
              def: if def.value ? ${name} then [ (def // { value = def.value.${name}; }) ] else [ ]
            ) defs;
        in
        listToAttrs (
          map (name: {
            inherit name;
            value = mergeOption (loc ++ [ name ]) { inherit type; } (ofName name);
          }) names
        );
    };
    submodule = module: {
      name = "a submodule";
      check = value: isAttrs value || isFunction value;
      merge =
        loc: defs:
        (evalModules {
          prefix = loc;
          modules = [ module ] ++ map (def: { config = def.value; }) defs;
        }).config;
    };
  };

  isOption = value: isAttrs value && (value._type or null) == "option";

  # The option trees of all modules as one; the same option twice is an error.
  mergeTrees =
    loc: trees:
    listToAttrs (
      map (
        name:
        let
          found = map (tree: tree.${name}) (filter (tree: tree ? ${name}) trees);
        in
        {
          inherit name;
          value =
            if isOption (head found) then
              if length found == 1 then head found else throw "option ${show (loc ++ [ name ])} is declared twice"
            else
              mergeTrees (loc ++ [ name ]) found;
        }
      ) (attrNames (foldl' (all: tree: all // tree) { } trees))
    );

  # What is defined of an attribute, with its place kept.
  below =
    name:
    concatMap (def: if def.value ? ${name} then [ (def // { value = def.value.${name}; }) ] else [ ]);

  # The values of an option tree.
  values =
    loc: tree: defs:
    let
      flat = concatMap discharge defs;
    in
    mapAttrs (
      name: option:
      (if isOption option then mergeOption else values) (loc ++ [ name ]) option (below name flat)
    ) tree;

  # What is defined and no option declares, anywhere in the tree.
  unmatched =
    loc: tree: defs:
    let
      flat = concatMap discharge defs;
      here = concatMap (
        def:
        map (name: "${show (loc ++ [ name ])} (set in ${def.file})") (
          filter (name: !(tree ? ${name})) (attrNames def.value)
        )
      ) flat;
      deeper =
        name:
        if isOption tree.${name} then [ ] else unmatched (loc ++ [ name ]) tree.${name} (below name flat);
    in
    here ++ concatMap deeper (attrNames tree);

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      args = specialArgs // {
        inherit lib config;
      };
      load =
        module:
        let
          file = if isPath module then toString module else "a module";
          loaded = if isPath module then import module else module;
          body =
            if isFunction loaded then
              loaded (args // mapAttrs (name: _: args.${name}) (functionArgs loaded))
            else
              loaded;
          long = body ? config || body ? options;
          own = {
            inherit file;
            options = body.options or { };
            config = if long then body.config or { } else removeAttrs body [ "imports" ];
          };
        in
        concatMap load (body.imports or [ ]) ++ [ own ];
      loaded = concatMap load modules;
      options = mergeTrees prefix (map (module: module.options) loaded);
      definitions = map (module: {
        value = module.config;
        priority = 100;
        order = 1000;
        inherit (module) file;
      }) loaded;
      config = values prefix options definitions;
      unknown = unmatched prefix options definitions;
    in
    {
      inherit options;
      config =
        if unknown == [ ] then config else throw "no such option: ${concatStringsSep ", " unknown}";
    };

  lib = {
    inherit
      evalModules
      types
      mkIf
      mkMerge
      mkOrder
      mkOverride
      ;
    inherit (builtins)
      any
      attrNames
      attrValues
      concatStringsSep
      elem
      filter
      stringLength
      ;
    mkOption = option: option // { _type = "option"; };
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;
    mkBefore = mkOrder 500;
    mkAfter = mkOrder 1500;
    genAttrs =
      names: value:
      listToAttrs (
        map (name: {
          inherit name;
          value = value name;
        }) names
      );
    filterAttrs = keep: set: removeAttrs set (filter (name: !(keep name set.${name})) (attrNames set));
    hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
    last = list: builtins.elemAt list (length list - 1);
    unique = foldl' (seen: item: if elem item seen then seen else seen ++ [ item ]) [ ];
    getBin = package: package.bin or package;
    splitString = separator: text: filter isString (builtins.split separator text);
    concatMapStringsSep =
      separator: value: list:
      concatStringsSep separator (map value list);
  };
in
lib
