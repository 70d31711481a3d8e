{
  description = "fixture-vm: reproducible TSN fixtures from a pinned guest under QEMU";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      system = "x86_64-linux";
      pkgs = nixpkgs.legacyPackages.${system};
      rust = import ./tools/nixos/packages.nix { inherit pkgs; };
      guest = self.nixosConfigurations.guest.config;
    in
    {
      packages.${system} = {
        inherit (rust) fixture-vm gen-fixtures;
        guest-image = guest.system.build.fixtureGuest;
        default = rust.fixture-vm;
      };

      nixosModules.guest = import ./tools/nixos;

      nixosConfigurations.guest = nixpkgs.lib.nixosSystem {
        inherit system;
        modules = [
          self.nixosModules.guest
          { fixtureGuest.program = rust.gen-fixtures; }
        ];
      };

      apps.${system}.default = {
        type = "app";
        program = "${
          import ./tools/nixos/app.nix {
            inherit pkgs;
            inherit (rust) fixture-vm;
            guestImage = self.packages.${system}.guest-image;
          }
        }/bin/fixture-vm";
        meta.description = "Runs fixture-vm with the NixOS guest of this flake";
      };

      devShells.${system}.default = import ./tools/nixos/shell.nix { inherit pkgs; };

      checks.${system} = {
        inherit (self.packages.${system}) fixture-vm gen-fixtures guest-image;
        guest-values = import ./tools/nixos/tests/check.nix {
          inherit pkgs;
          config = guest;
        };
        lint = import ./tools/nixos/lint.nix {
          inherit pkgs;
          source = self;
        };
      };

      formatter.${system} = pkgs.nixfmt;
    };
}
