# The flake's outputs, evaluated with a stand-in for its input: each output that
# is promised is there and is made of what it should be.
{ evaluate, pkgs }:
let
  self = (import ../../../flake.nix).outputs {
    self = self // {
      outPath = toString ../../..;
    };
    nixpkgs = {
      legacyPackages.x86_64-linux = pkgs;
      lib.nixosSystem = { modules, ... }: { config = evaluate modules; };
    };
  };
  of = output: self.${output}.x86_64-linux;
  derivations = {
    "packages.default" = (of "packages").default;
    "packages.fixture-vm" = (of "packages").fixture-vm;
    "packages.gen-fixtures" = (of "packages").gen-fixtures;
    "packages.guest-image" = (of "packages").guest-image;
    "checks.fixture-vm" = (of "checks").fixture-vm;
    "checks.gen-fixtures" = (of "checks").gen-fixtures;
    "checks.guest-image" = (of "checks").guest-image;
    "checks.guest-values" = (of "checks").guest-values;
    "checks.lint" = (of "checks").lint;
    "devShells.default" = (of "devShells").default;
    "formatter" = of "formatter";
  };
in
builtins.mapAttrs (
  _: value:
  if builtins.isString (builtins.deepSeq value value.outPath) then "" else "is no derivation"
) derivations
// {
  "apps.default" =
    if builtins.match ".*/bin/fixture-vm" (of "apps").default.program == [ ] then
      ""
    else
      "starts no program";
  "nixosModules.guest" = if self.nixosModules ? guest then "" else "is not there";
  "the guest runs the flake's own program" =
    if
      self.nixosConfigurations.guest.config.fixtureGuest.program.outPath == (of "packages")
      .gen-fixtures.outPath
    then
      ""
    else
      "it runs another";
}
