# The guest of fixture-vm as a NixOS module: one concern per file.
{
  imports = [
    ./options.nix
    ./kernel.nix
    ./console.nix
    ./root.nix
    ./tools.nix
    ./microvm.nix
    ./unit.nix
    ./minimal.nix
    ./image.nix
    ./asserts.nix
  ];
}
