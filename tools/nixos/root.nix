# The root: memory above, and below it the store as one read-only erofs image.
# The image is found by its label, so one configuration serves the virtio disk
# (a qcow2 overlay above the image) and the nvdimm (the image mapped privately).
{ config, ... }:
{
  fileSystems = {
    "/" = {
      device = "none";
      fsType = "tmpfs";
      options = [
        "mode=0755"
        "size=75%"
      ];
    };
    "/nix/store" = {
      device = "/dev/disk/by-label/${config.fixtureGuest.storeLabel}";
      fsType = "erofs";
      options = [ "ro" ];
      neededForBoot = true;
      noCheck = true;
    };
  };

  boot.supportedFilesystems.erofs = true;
  boot.loader.grub.enable = false;
}
