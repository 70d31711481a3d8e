# Kernel, and the modules of each stage. What the first stage needs to find its
# root and its consoles is loaded by name, never left to detection.
{ modulesPath, pkgs, ... }:
{
  imports = [ (modulesPath + "/profiles/qemu-guest.nix") ];

  boot.kernelPackages = pkgs.linuxPackages_latest;

  boot.initrd = {
    systemd.enable = true;
    includeDefaultModules = false;
    availableKernelModules = [ "qemu_fw_cfg" ];
    kernelModules = [
      # The root: an overlay on a virtio disk, or the same bytes as memory.
      "virtio_pci"
      "virtio_blk"
      "nfit"
      "nd_pmem"
      "erofs"
      # The share, mounted by the guest program when its work is done.
      "9p"
      "9pnet_virtio"
    ];
  };

  boot.kernelModules = [
    # 802.1Q bridges, links between namespaces, links to microVMs.
    "8021q"
    "bridge"
    "dummy"
    "tun"
    "veth"
    # 802.1Qbv, 802.1Qav, launch time, and the rest of the queueing.
    "sch_taprio"
    "sch_cbs"
    "sch_etf"
    "sch_mqprio"
    "sch_prio"
    "sch_netem"
    "sch_ingress"
    # Priority is lost across a veth: classify and mark again on ingress.
    "cls_flower"
    "cls_matchall"
    "cls_u32"
    "act_mirred"
    "act_skbedit"
    "act_vlan"
    # Captures.
    "af_packet"
  ];

  # Nested microVMs; which of the two fits the CPU is found by trying.
  boot.extraModprobeConfig = ''
    options kvm_amd nested=1
    options kvm_intel nested=1
  '';
}
