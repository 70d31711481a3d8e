# What a user of the guest module can set.
{ lib, ... }:
{
  options.fixtureGuest = {
    program = lib.mkOption {
      type = lib.types.package;
      description = "The package with bin/gen-fixtures, the guest program.";
    };

    tools = lib.mkOption {
      type = lib.types.attrsOf lib.types.str;
      description = "Each tool the guest program starts, by name, as an absolute path in the store.";
    };

    microvm = lib.mkOption {
      type = lib.types.package;
      description = "The folder with what microVMs boot: vmlinux, and modules with their order.";
    };

    storeLabel = lib.mkOption {
      type = lib.types.str;
      default = "fixture-store";
      description = "Label of the root image; it is found by this on a virtio disk and on an nvdimm alike.";
    };
  };
}
