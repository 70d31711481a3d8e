# What the guest does without: each thing left out is boot time saved, and a
# process less that wakes up on the virtual clock.
{ lib, ... }:
{
  system.stateVersion = "26.05";

  networking = {
    hostName = "guest";
    useDHCP = false;
    useNetworkd = false;
    dhcpcd.enable = false;
    firewall.enable = false;
    resolvconf.enable = false;
  };
  systemd.network.wait-online.enable = false;

  # The clock is QEMU's and ptp4l's, nobody else's.
  services.timesyncd.enable = false;
  time.timeZone = "UTC";

  documentation.enable = false;
  environment.defaultPackages = lib.mkForce [ ];
  fonts.fontconfig.enable = false;
  nix.enable = false;
  programs.command-not-found.enable = false;
  security.sudo.enable = false;
  security.polkit.enable = false;
  services.logrotate.enable = false;
  services.nscd.enable = false;
  system.nssModules = lib.mkForce [ ];
  system.switch.enable = false;
  systemd.coredump.enable = false;
  systemd.oomd.enable = false;
  xdg.autostart.enable = false;
  xdg.icons.enable = false;
  xdg.mime.enable = false;
  xdg.sounds.enable = false;

  # The journal stays in memory; the console is what is kept.
  services.journald.storage = "volatile";

  # Nobody logs in, so nothing is gained by waiting for it: the guest program tells what is missing.
  systemd.enableEmergencyMode = false;
  users.mutableUsers = false;
  users.allowNoPasswordLogin = true;
}
