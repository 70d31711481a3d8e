# Stands for nixpkgs' profile of the same name, which adds virtio drivers; the
# guest's own list must be enough without it.
{ }
