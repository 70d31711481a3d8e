# The same values, held against the real configuration: `nix flake check`.
{ pkgs, config }:
let
  inherit (pkgs) lib;
  failed = lib.filter (value: !value.holds) (import ./values.nix { inherit lib config; });
in
if failed == [ ] then
  pkgs.runCommand "guest-values" { } "touch $out"
else
  throw "the guest's configuration is wrong: ${
    lib.concatMapStringsSep "; " (value: value.name) failed
  }"
