//! Messages in `group_open_http_svc`: groups-and-messages.md sections 4, 5.2 and 7, long-connection.md
//! section 6.

pub(super) mod group_msg_get;
pub(super) mod group_msg_get_simple;
pub(super) mod group_msg_recall;
pub(super) mod import_group_msg;
pub(super) mod send_group_msg;

pub(crate) mod audience;
pub(in crate::api) mod body;
pub(in crate::api) mod draft;
