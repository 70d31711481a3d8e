//! What Firecracker is asked for, as plain data: nothing in it depends on anything but the microVM and its place.

use fixture::pool::Paths;
use serde_json::json;

use super::super::backend::Spec;
use super::super::snapshot;
use super::Request;

/// The port of the agent's channel. The microVM is the only one behind its VMM's socket, so any will do.
pub const AGENT_PORT: u32 = 1024;

/// The first address that a guest may have (vsock(7)); each VMM has a device of its own.
const GUEST_CID: u32 = 3;

/// Everything from an idle Firecracker to a guest that boots; `taps` are the names of those in the specification.
pub fn create(spec: &Spec<'_>, taps: &[&str]) -> Vec<Request> {
    let (identity, paths, boot) = (spec.identity, spec.paths, spec.boot);
    let resources = identity.resources;
    let machine = json!({ "vcpu_count": resources.vcpus, "mem_size_mib": resources.mem_mib });
    let source = json!({
        "kernel_image_path": boot.kernel, "initrd_path": boot.initramfs, "boot_args": boot.cmdline,
    });
    let mut requests = vec![Request::put("/machine-config", machine), Request::put("/boot-source", source)];
    let drives = [("root", &boot.root, true), ("config", &paths.config, true)];
    let data = (resources.data_disk_mib > 0).then_some(("data", &paths.data, false));
    let drives = drives.into_iter().chain([("secrets", &paths.secrets, true)]).chain(data);
    requests.extend(drives.map(|(id, file, read_only)| {
        // The agent finds its root by what is in it; `is_root_device` would only add words for a kernel without one.
        let drive = json!({
            "drive_id": id, "path_on_host": file, "is_root_device": false, "is_read_only": read_only,
        });
        Request::put(format!("/drives/{id}"), drive)
    }));
    requests.extend(taps.iter().zip(&identity.macs).enumerate().map(|(at, (tap, mac))| {
        let id = format!("port{at}");
        let interface = json!({ "iface_id": id, "host_dev_name": tap, "guest_mac": mac.to_string() });
        Request::put(format!("/network-interfaces/{id}"), interface)
    }));
    requests.push(Request::put("/vsock", json!({ "guest_cid": GUEST_CID, "uds_path": paths.agent })));
    requests.push(Request::put("/actions", json!({ "action_type": "InstanceStart" })));
    requests
}

/// Stops the processors, or lets them go on.
pub fn state(state: &str) -> Request {
    Request::patch("/vm", json!({ "state": state }))
}

/// Writes a paused microVM down.
pub fn save(paths: &Paths) -> Request {
    let files = json!({
        "snapshot_type": "Full", "snapshot_path": snapshot::devices(paths), "mem_file_path": paths.snapshot,
    });
    Request::put("/snapshot/create", files).that_moves_memory()
}

/// Reads one that was written down; its processors stand.
pub fn load(paths: &Paths) -> Request {
    let files = json!({
        "snapshot_path": snapshot::devices(paths),
        "mem_backend": { "backend_type": "File", "backend_path": paths.snapshot },
        "resume_vm": false,
    });
    Request::put("/snapshot/load", files).that_moves_memory()
}
