# Format and dead code of every Nix file.
{ pkgs, source }:
pkgs.runCommand "nix-lint"
  {
    nativeBuildInputs = [
      pkgs.deadnix
      pkgs.nixfmt
    ];
  }
  ''
    cd ${source}
    nixfmt --check flake.nix $(find tools/nixos -name '*.nix')
    deadnix --fail flake.nix tools/nixos
    touch $out
  ''
