//! The configuration of a node's ptp4l: the 802.1AS profile over Ethernet with software time stamps.

use fixture::scenario::{Gptp, Node, NodeKind, Role};

use super::ptp4l_socket;

/// After how many missing Announce messages the grandmaster knows that nobody is better.
const GRANDMASTER_ANNOUNCE_TIMEOUT: u8 = 2;

/// After how many missing Announce messages the others look for another grandmaster, and after how many missing
/// Sync messages. Both defaults are 3 (IEEE 802.1AS-2020, 10.7.3), which at the usual intervals is less than a
/// busy host may keep the whole guest waiting; these are 1.25 s.
const ANNOUNCE_TIMEOUT: u8 = 5;
const SYNC_TIMEOUT: u8 = 10;

/// How long ptp4l waits for the time stamp of a message that it sent. With the default of 10 ms a guest that is
/// kept waiting at the wrong moment declares the port faulty.
const TX_TIMESTAMP_MS: u16 = 1000;

/// By how much a steered clock may be off before it is set instead: what a node that was paused comes back with.
const STEP_THRESHOLD: &str = "0.01";

/// What the servo makes of an offset. With what ptp4l takes for software time stamps, 0.1 and 0.001, it would look for
/// 16 s (0.016 / integral) before it steers at all, and then take a minute. It is not to set the clock at first, so
/// that a clock is seen to converge.
const PROPORTIONAL: &str = "0.7";
const INTEGRAL: &str = "0.3";

/// The nodes that are namespaces run on the clock of the one kernel, which must not be steered: ptp4l measures and
/// reports only (`free_running`). So the ports that follow stay UNCALIBRATED, and every Sync gives one line in the
/// log. A microVM has a clock of its own, and follows.
pub fn config(node: &Node, settings: &Gptp) -> String {
    let (priority, announce_timeout) = match node.role {
        Role::Grandmaster => (100, GRANDMASTER_ANNOUNCE_TIMEOUT),
        Role::Bridge => (246, ANNOUNCE_TIMEOUT),
        Role::EndStation => (248, ANNOUNCE_TIMEOUT),
    };
    let priority = settings.priority1.unwrap_or(priority);
    let socket = ptp4l_socket(&node.name);
    let Gptp { domain, log_sync_interval, log_announce_interval, log_pdelay_req_interval, .. } = settings;
    let steering = match node.kind {
        NodeKind::Namespace => "free_running 1".into(),
        NodeKind::Microvm => format!(
            "step_threshold {STEP_THRESHOLD}\nfirst_step_threshold 0\n\
             pi_proportional_const {PROPORTIONAL}\npi_integral_const {INTEGRAL}"
        ),
    };
    let threshold = settings.neighbor_prop_delay_thresh.0;
    let mut text = format!(
        "[global]\n\
         gmCapable 1\n\
         priority1 {priority}\n\
         priority2 248\n\
         domainNumber {domain}\n\
         logSyncInterval {log_sync_interval}\n\
         logAnnounceInterval {log_announce_interval}\n\
         logMinPdelayReqInterval {log_pdelay_req_interval}\n\
         announceReceiptTimeout {announce_timeout}\n\
         syncReceiptTimeout {SYNC_TIMEOUT}\n\
         neighborPropDelayThresh {threshold}\n\
         transportSpecific 0x1\n\
         ptp_dst_mac 01:80:C2:00:00:0E\n\
         network_transport L2\n\
         delay_mechanism P2P\n\
         time_stamping software\n\
         follow_up_info 1\n\
         path_trace_enabled 1\n\
         assume_two_step 1\n\
         {steering}\n\
         tx_timestamp_timeout {TX_TIMESTAMP_MS}\n\
         fault_reset_interval 0\n\
         freq_est_interval 0\n\
         summary_interval {log_sync_interval}\n\
         uds_address {}\n\
         uds_ro_address {}.ro\n\
         use_syslog 0\n\
         verbose 1\n",
        socket.display(),
        socket.display(),
    );
    for port in &node.ports {
        text += &format!("[{}]\n", port.name);
    }
    text
}
