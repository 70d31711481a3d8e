//! The configuration of a node's ptp4l: the 802.1AS profile over Ethernet with software time stamps.

use fixture::scenario::{Gptp, Node, Role};

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

/// All nodes run on the clock of the one kernel, which must not be steered: ptp4l measures and reports only
/// (`free_running`). So the ports that follow stay UNCALIBRATED, and every Sync gives one line in the log.
pub fn config(node: &Node, settings: &Gptp) -> String {
    let (priority, announce_timeout) = match node.role {
        Role::Grandmaster => (100, GRANDMASTER_ANNOUNCE_TIMEOUT),
        Role::Bridge => (246, ANNOUNCE_TIMEOUT),
        Role::EndStation => (248, ANNOUNCE_TIMEOUT),
    };
    let priority = settings.priority1.unwrap_or(priority);
    let socket = ptp4l_socket(&node.name);
    let Gptp { domain, log_sync_interval, log_announce_interval, log_pdelay_req_interval, .. } = settings;
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
         free_running 1\n\
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
