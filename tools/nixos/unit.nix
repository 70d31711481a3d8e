# The unit that runs the guest program. The program mounts the share, proves it,
# hands over and powers off; should it die, systemd powers off in its place.
{ config, lib, ... }:
let
  cfg = config.fixtureGuest;
  folders = lib.unique (map builtins.dirOf (builtins.attrValues cfg.tools));
in
{
  systemd.services.gen-fixtures = {
    description = "Fixture generation";
    wantedBy = [ "multi-user.target" ];
    after = [ "systemd-modules-load.service" ];
    environment = {
      FIXTURE_VM_TOOLS = lib.concatStringsSep ":" folders;
      # MicroVMs share the guest's root, which is a store and no more.
      FIXTURE_VM_MICROVM = "${cfg.microvm}";
      FIXTURE_VM_STORE = "/dev/disk/by-label/${cfg.storeLabel}";
      PATH = lib.mkForce (lib.concatStringsSep ":" folders);
      RUST_BACKTRACE = "1";
    };
    unitConfig = {
      SuccessAction = "poweroff-force";
      FailureAction = "poweroff-force";
      StartLimitIntervalSec = 0;
    };
    serviceConfig = {
      Type = "exec";
      ExecStart = "${cfg.program}/bin/gen-fixtures";
      Restart = "no";
      StandardInput = "null";
      StandardOutput = "journal+console";
      StandardError = "journal+console";
      TimeoutStopSec = 5;
      # Namespaces, links, raw sockets and the clock are its work.
      LimitNOFILE = 65536;
    };
  };
}
