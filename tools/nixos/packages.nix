# The two programs. The guest program is built from its own sources alone, so
# that a change of the harness leaves the guest image as it is.
{ pkgs }:
let
  inherit (pkgs) lib;
  root = ../..;
  common = {
    version = (lib.importTOML ../../Cargo.toml).workspace.package.version;
    cargoLock.lockFile = ../../Cargo.lock;
    meta.license = with lib.licenses; [
      mit
      asl20
    ];
  };
  sources =
    parts:
    lib.fileset.toSource {
      inherit root;
      fileset = lib.fileset.unions (
        [
          ../../Cargo.toml
          ../../Cargo.lock
        ]
        ++ parts
      );
    };
in
{
  gen-fixtures = pkgs.rustPlatform.buildRustPackage (
    common
    // {
      pname = "gen-fixtures";
      src = sources [
        ../../crates/fixture
        ../../crates/gen-fixtures
        ../../crates/fixture-vm/Cargo.toml
      ];
      # The workspace names the harness; its manifest is enough for cargo.
      postPatch = ''
        mkdir -p crates/fixture-vm/src
        echo 'fn main() {}' > crates/fixture-vm/src/main.rs
      '';
      # Static, for it is also the first process of microVMs that have nothing else.
      buildInputs = [ pkgs.glibc.static ];
      env.RUSTFLAGS = "-C target-feature=+crt-static -C relocation-model=static";
      buildType = "guest";
      cargoBuildFlags = [ "--package=gen-fixtures" ];
      doCheck = false;
    }
  );

  fixture-vm = pkgs.rustPlatform.buildRustPackage (
    common
    // {
      pname = "fixture-vm";
      src = sources [
        ../../crates
        # Compiled in.
        ../../tools/debian
      ];
      cargoBuildFlags = [ "--package=fixture-vm" ];
      # The tests boot guests; `nix flake check` has its own, the workflows run them all.
      doCheck = false;
      meta = common.meta // {
        description = "Boots a pinned guest under QEMU, collects the fixtures it makes, verifies and publishes them";
        mainProgram = "fixture-vm";
      };
    }
  );
}
