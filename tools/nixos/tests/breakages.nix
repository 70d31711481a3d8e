# One way to break each rule of asserts.nix, and the words its message must
# hold: the option and the mend.
{ lib }:
{
  initrd-without-virtio = {
    module.boot.initrd.kernelModules = lib.mkForce [
      "erofs"
      "9p"
      "9pnet_virtio"
      "nfit"
      "nd_pmem"
    ];
    says = "boot.initrd.kernelModules lacks virtio_pci virtio_blk";
  };
  initrd-without-9p = {
    module.boot.initrd.kernelModules = lib.mkForce [
      "virtio_pci"
      "virtio_blk"
      "erofs"
      "nfit"
      "nd_pmem"
    ];
    says = "boot.initrd.kernelModules lacks 9p 9pnet_virtio";
  };
  guest-without-taprio = {
    module.boot.kernelModules = lib.mkForce [
      "sch_cbs"
      "sch_etf"
    ];
    says = "boot.kernelModules lacks sch_taprio";
  };
  console-order = {
    module.boot.kernelParams = lib.mkOrder 2000 [ "console=tty0" ];
    says = "the last console= must be console=ttyS0";
  };
  waits-for-login = {
    module.boot.kernelParams = lib.mkForce [ "console=ttyS0" ];
    says = "boot.kernelParams lacks boot.panic_on_fail";
  };
  nofail-mount = {
    module.fileSystems."/extra" = {
      device = "/dev/vdb";
      fsType = "ext4";
      options = [ "nofail" ];
    };
    says = "no mount may be nofail";
  };
  share-mounted-by-system = {
    module.fileSystems."/share" = {
      device = "fixtures";
      fsType = "9p";
    };
    says = "the 9p share is not mounted by the system";
  };
  hang-on-failure = {
    module.systemd.services.gen-fixtures.unitConfig.FailureAction = lib.mkForce "none";
    says = "SuccessAction and FailureAction must both be poweroff-force";
  };
  hang-on-success = {
    module.systemd.services.gen-fixtures.unitConfig.SuccessAction = lib.mkForce "none";
    says = "SuccessAction and FailureAction must both be poweroff-force";
  };
  program-by-name = {
    module.systemd.services.gen-fixtures.serviceConfig.ExecStart = lib.mkForce "gen-fixtures";
    says = "ExecStart must be a path in the store";
  };
  tool-by-name = {
    module.fixtureGuest.tools = lib.mkForce { ip = "ip"; };
    says = "fixtureGuest.tools: ip must be absolute paths";
  };
  waits-for-network = {
    module.systemd.services.gen-fixtures.after = [ "network-online.target" ];
    says = "waits for a network";
  };
  network-wait-enabled = {
    module.systemd.network.wait-online.enable = lib.mkForce true;
    says = "waits for a network";
  };
  second-clock = {
    module.services.timesyncd.enable = lib.mkForce true;
    says = "services.timesyncd.enable must stay false";
  };
  long-label = {
    module.fixtureGuest.storeLabel = "a-label-of-too-many-bytes";
    says = "longer than the 15 bytes";
  };
}
