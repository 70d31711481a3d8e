# Packages that are nothing but a path, and builders that keep what they were
# given: enough for the modules and the flake to be evaluated without nixpkgs.
let
  package =
    name: version:
    let
      self = {
        type = "derivation";
        inherit name version;
        pname = name;
        outPath = "${builtins.storeDir}/0123456789abcdfghijklmnpqrsvwxyz-${name}-${version}";
        dev = self // {
          outPath = "${self.outPath}-dev";
        };
        static = self;
      };
    in
    self;
  built =
    given: package (given.pname or given.name or "shell") (given.version or "0") // { inherit given; };
in
builtins.mapAttrs package {
  binutils = "2.44";
  cargo = "1.95";
  cargo-deny = "0.19";
  cargo-nextest = "0.9";
  clippy = "1.95";
  deadnix = "1.3";
  erofs-utils = "1.8";
  ethtool = "6.15";
  firecracker = "1.13";
  gen-fixtures = "0.1";
  glibc = "2.42";
  initialRamdisk = "26.05";
  iproute2 = "6.16";
  jq = "1.8";
  linuxptp = "4.4";
  lldpd = "1.0.19";
  lz4 = "1.10";
  nixfmt = "1.2";
  qemu_kvm = "10.1";
  qemu_test = "10.1";
  rustc = "1.95";
  rustfmt = "1.95";
  shellcheck = "0.11";
  toplevel = "26.05";
  wireshark-cli = "4.4";
  xz = "5.8";
  zizmor = "1.20";
  zstd = "1.5";
}
// {
  linuxPackages_latest.kernel = package "linux" "6.18";
  closureInfo = { rootPaths }: package "closure-info" (toString (builtins.length rootPaths));
  # Fails where nixpkgs' own does: no modules are wanted of nothing.
  makeModulesClosure =
    {
      kernel,
      firmware,
      rootModules,
      allowMissing,
    }:
    assert kernel.type == "derivation" && firmware == [ ] && !allowMissing;
    package "kernel-modules" (builtins.concatStringsSep "-" rootModules);
  mkShell = built;
  runCommand =
    name: environment: script:
    built { inherit name environment script; };
  rustPlatform.buildRustPackage = built;
  writeShellApplication = built;

  lib = import ./lib.nix // {
    importTOML = file: fromTOML (builtins.readFile file);
    licenses = {
      mit = "MIT";
      asl20 = "Apache-2.0";
    };
    # What is named must be there; the rest is nixpkgs' business.
    fileset = {
      unions =
        parts: if builtins.all builtins.pathExists parts then parts else throw "a source is missing";
      toSource = { root, fileset }: builtins.deepSeq fileset (toString root);
    };
  };
}
