# What must hold for the guest to be seen, to prove its share and to end; each
# names the option and the mend. A list of things that broke, each excluded.
{ config, lib, ... }:
let
  cfg = config.fixtureGuest;
  unit = config.systemd.services.gen-fixtures;
  inherit (config.boot) initrd;

  needed = [
    "virtio_pci"
    "virtio_blk"
    "nd_pmem"
    "nfit"
    "erofs"
    "9p"
    "9pnet_virtio"
  ];
  shaping = [
    "sch_taprio"
    "sch_cbs"
    "sch_etf"
  ];
  missing = wanted: there: lib.filter (name: !(lib.elem name there)) wanted;
  consoles = lib.filter (lib.hasPrefix "console=") config.boot.kernelParams;
  mounts = lib.attrValues config.fileSystems;
  outside = lib.filterAttrs (_: path: !(lib.hasPrefix builtins.storeDir path)) cfg.tools;
  orders = unit.after ++ unit.wants ++ unit.requires;
in
{
  assertions = [
    {
      assertion = missing needed initrd.kernelModules == [ ];
      message = "boot.initrd.kernelModules lacks ${toString (missing needed initrd.kernelModules)}: without them the guest finds neither root nor share and waits in silence. Add to the list instead of forcing it.";
    }
    {
      assertion = missing shaping config.boot.kernelModules == [ ];
      message = "boot.kernelModules lacks ${toString (missing shaping config.boot.kernelModules)}: a scene's schedules could not be set. Add to the list instead of forcing it.";
    }
    {
      assertion = consoles != [ ] && lib.last consoles == "console=ttyS0";
      message = "boot.kernelParams: the last console= must be console=ttyS0, for the last one is /dev/console and the harness reads the first serial port. Put others before it.";
    }
    {
      assertion = lib.elem "boot.panic_on_fail" config.boot.kernelParams;
      message = "boot.kernelParams lacks boot.panic_on_fail: a first stage without a root would wait for a login that nobody can make. Add to the list instead of forcing it.";
    }
    {
      assertion = !(lib.any (mount: lib.elem "nofail" mount.options) mounts);
      message = "fileSystems: no mount may be nofail, or files are written to a folder of the guest and look handed over. Drop the option.";
    }
    {
      assertion = !(lib.any (mount: mount.fsType == "9p") mounts);
      message = "fileSystems: the 9p share is not mounted by the system; gen-fixtures mounts it, proves it by the nonce and only then writes. Drop the entry.";
    }
    {
      assertion =
        unit.unitConfig.SuccessAction == "poweroff-force"
        && unit.unitConfig.FailureAction == "poweroff-force";
      message = "systemd.services.gen-fixtures.unitConfig: SuccessAction and FailureAction must both be poweroff-force, or a failed guest looks like one that hangs. Restore them.";
    }
    {
      assertion = lib.hasPrefix builtins.storeDir unit.serviceConfig.ExecStart;
      message = "systemd.services.gen-fixtures.serviceConfig.ExecStart must be a path in the store. Set fixtureGuest.program to the package.";
    }
    {
      assertion = outside == { };
      message = "fixtureGuest.tools: ${toString (lib.attrNames outside)} must be absolute paths in the store. Take them from a package.";
    }
    {
      assertion =
        !(lib.any (lib.hasPrefix "network-online") orders) && !config.systemd.network.wait-online.enable;
      message = "systemd.services.gen-fixtures waits for a network, and the guest has none. Drop network-online.target and leave systemd.network.wait-online.enable false.";
    }
    {
      assertion = !config.services.timesyncd.enable;
      message = "services.timesyncd.enable must stay false: gPTP's clock has one master.";
    }
    {
      assertion = lib.stringLength cfg.storeLabel <= 15;
      message = "fixtureGuest.storeLabel is longer than the 15 bytes an erofs label holds. Shorten it.";
    }
  ];
}
