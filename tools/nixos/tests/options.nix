# The options of NixOS that the guest modules read or set, with their types: the
# stand-in for nixpkgs' own modules. A setting that is not here is an error.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  of = type: default: mkOption { inherit type default; };
  flag = of types.bool;
  names = of (types.listOf types.str) [ ];

  mount = types.submodule {
    options = {
      device = mkOption { type = types.str; };
      fsType = mkOption { type = types.str; };
      options = of (types.listOf types.str) [ "defaults" ];
      neededForBoot = flag false;
      noCheck = flag false;
    };
  };

  setting = types.either types.str (types.either types.int types.bool);
  service = types.submodule {
    options = {
      enable = flag true;
      description = of types.str "";
      after = names;
      wants = names;
      requires = names;
      wantedBy = names;
      environment = of (types.attrsOf types.str) { };
      unitConfig = of (types.attrsOf setting) { };
      serviceConfig = of (types.attrsOf setting) { };
    };
  };

  user = types.submodule {
    options = {
      isSystemUser = flag false;
      group = of types.str "";
      description = of types.str "";
      home = of types.str "/var/empty";
    };
  };
in
{
  options = {
    assertions = mkOption {
      type = types.listOf types.anything;
      default = [ ];
    };

    boot = {
      consoleLogLevel = of types.int 4;
      extraModprobeConfig = of types.lines "";
      initrd = {
        availableKernelModules = names;
        kernelModules = names;
        includeDefaultModules = flag true;
        systemd.enable = flag false;
        verbose = flag true;
      };
      kernelModules = names;
      kernelPackages = mkOption { type = types.anything; };
      kernelParams = names;
      loader.grub.enable = flag true;
      supportedFilesystems = of (types.attrsOf types.bool) { };
    };

    documentation.enable = flag true;
    environment.defaultPackages = of (types.listOf types.package) [ ];
    fileSystems = of (types.attrsOf mount) { };
    fonts.fontconfig.enable = flag true;
    networking = {
      hostName = of types.str "nixos";
      useDHCP = flag true;
      useNetworkd = flag false;
      dhcpcd.enable = flag true;
      firewall.enable = flag true;
      resolvconf.enable = flag true;
    };
    nix.enable = flag true;
    programs.command-not-found.enable = flag true;
    security = {
      polkit.enable = flag true;
      sudo.enable = flag true;
    };
    services = {
      journald.storage = of types.str "persistent";
      logrotate.enable = flag true;
      nscd.enable = flag true;
      timesyncd.enable = flag true;
    };
    system = {
      build = of (types.attrsOf types.anything) { };
      modulesTree = of types.package (import ./pkgs.nix).linuxPackages_latest.kernel;
      nssModules = of (types.listOf types.anything) [ ];
      stateVersion = mkOption { type = types.str; };
      switch.enable = flag true;
    };
    systemd = {
      coredump.enable = flag true;
      enableEmergencyMode = flag true;
      network.wait-online.enable = flag true;
      oomd.enable = flag true;
      services = of (types.attrsOf service) { };
      tmpfiles.rules = names;
    };
    time.timeZone = of types.str "UTC";
    users = {
      allowNoPasswordLogin = flag false;
      groups = of (types.attrsOf types.anything) { };
      mutableUsers = flag true;
      users = of (types.attrsOf user) { };
    };
    xdg = {
      autostart.enable = flag true;
      icons.enable = flag true;
      mime.enable = flag true;
      sounds.enable = flag true;
    };
  };
}
