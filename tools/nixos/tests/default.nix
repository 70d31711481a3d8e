# Evaluates the guest modules and tells what fails: a set of name to "" or the
# reason. Run by `nix-instantiate --eval --strict --json`; `lib` is the stand-in
# unless the real one is given.
{
  lib ? import ./lib.nix,
}:
let
  pkgs = import ./pkgs.nix;
  evaluate =
    modules:
    (lib.evalModules {
      modules = [ ./options.nix ] ++ modules;
      specialArgs = {
        inherit pkgs;
        modulesPath = ./nixos-modules;
      };
    }).config;
  program = {
    fixtureGuest.program = pkgs.gen-fixtures;
    system.build = { inherit (pkgs) toplevel initialRamdisk; };
  };
  guest = evaluate [
    ../.
    program
  ];

  named = map (module: {
    name = baseNameOf module;
    value = module;
  }) (import ../.).imports;

  # Alone, each module must at least be well-typed: every option it sets exists.
  alone = builtins.listToAttrs (
    map (
      { name, value }:
      {
        name = "alone: ${name}";
        value =
          let
            needs = if name == "options.nix" then [ ] else [ ../options.nix ];
            tools = if name == "tools.nix" then [ ] else [ ../tools.nix ];
            unit =
              if name == "asserts.nix" then
                [
                  ../unit.nix
                  ../kernel.nix
                  ../console.nix
                ]
              else
                [ ];
            config = evaluate (
              needs
              ++ tools
              ++ unit
              ++ [
                value
                program
              ]
            );
            shape = builtins.attrNames config.systemd.services ++ config.boot.kernelParams;
          in
          if (builtins.tryEval (builtins.deepSeq shape true)).success then "" else "does not evaluate alone";
      }
    ) named
  );

  values = builtins.listToAttrs (
    map
      (value: {
        name = "value: ${value.name}";
        value = if value.holds then "" else "does not hold";
      })
      (
        import ./values.nix {
          lib = lib // {
            splitString = separator: text: builtins.filter builtins.isString (builtins.split separator text);
          };
          config = guest;
        }
      )
  );

  infix = part: text: builtins.length (builtins.split (escape part) text) > 1;
  escape = builtins.replaceStrings [ "." "=" "[" "]" ] [ "\\." "=" "\\[" "\\]" ];
  breakages = builtins.listToAttrs (
    map (
      name:
      let
        breakage = (import ./breakages.nix { inherit lib; }).${name};
        config = evaluate [
          ../.
          program
          breakage.module
        ];
        failed = map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions);
      in
      {
        name = "refused: ${name}";
        value =
          if failed == [ ] then
            "no assertion fails"
          else if builtins.any (infix breakage.says) failed then
            ""
          else
            "told as: ${toString failed}";
      }
    ) (builtins.attrNames (import ./breakages.nix { inherit lib; }))
  );

  wiring = import ./wiring.nix {
    inherit pkgs;
    evaluate =
      modules:
      evaluate (
        modules
        ++ [
          { system.build = { inherit (pkgs) toplevel initialRamdisk; }; }
        ]
      );
  };
  flake = builtins.listToAttrs (
    map (name: {
      name = "flake: ${name}";
      value = wiring.${name};
    }) (builtins.attrNames wiring)
  );

  inherit (guest.system.build.fixtureGuest.given.environment) descriptor;
in
alone
// values
// breakages
// flake
// {
  "image: the script gets the init of this system" =
    if infix "init=${pkgs.toplevel}/init" descriptor then "" else descriptor;
  "image: the descriptor tells the contract" =
    if builtins.isInt (builtins.fromJSON descriptor).contract then "" else descriptor;
}
