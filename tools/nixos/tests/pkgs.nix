# Packages that are nothing but a path: enough for a configuration to name them.
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
        __toString = it: it.outPath;
      };
    in
    self;
in
builtins.mapAttrs package {
  erofs-utils = "1.8";
  ethtool = "6.15";
  firecracker = "1.13";
  gen-fixtures = "0.1";
  iproute2 = "6.16";
  jq = "1.8";
  lldpd = "1.0.19";
  linuxptp = "4.4";
  qemu_test = "10.1";
  wireshark-cli = "4.4";
  binutils = "2.44";
  initialRamdisk = "26.05";
  toplevel = "26.05";
}
// {
  linuxPackages_latest.kernel = package "linux" "6.18";
  closureInfo = { rootPaths }: package "closure-info" (toString (builtins.length rootPaths));
  runCommand =
    name: environment: script:
    package name "0" // { inherit environment script; };
}
