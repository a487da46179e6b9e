//! Which webhooks there are.

use std::fmt;

/// A webhook by the command that its request names.
macro_rules! callbacks {
    ($($(#[$doc:meta])* $name:ident = $command:literal,)*) => {
        /// A kind of webhook (webhooks.md section 2).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Callback { $($(#[$doc])* $name,)* }

        impl Callback {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The command, as in `CallbackCommand`.
            pub const fn command(self) -> &'static str {
                match self { $(Self::$name => $command,)* }
            }
        }
    };
}

callbacks! {
    /// Pairs of a message of a group changed.
    AfterGroupMsgExtension = "Group.CallbackAfterGroupMsgExtension",
    /// Pairs of a one-to-one message changed.
    AfterC2cMsgExtension = "C2C.CallbackAfterC2CMsgExtension",
    /// A one-to-one message was sent.
    AfterC2cSendMsg = "C2C.CallbackAfterSendMsg",
    /// A one-to-one message was recalled.
    AfterC2cMsgWithDraw = "C2C.CallbackAfterMsgWithDraw",
    /// A message was sent to a group.
    AfterSendMsg = "Group.CallbackAfterSendMsg",
    /// Messages of a group were recalled.
    AfterRecallMsg = "Group.CallbackAfterRecallMsg",
    /// A group was created.
    AfterCreateGroup = "Group.CallbackAfterCreateGroup",
    /// A group's description changed.
    AfterGroupInfoChanged = "Group.CallbackAfterGroupInfoChanged",
    /// A group has another owner.
    AfterChangeGroupOwner = "Group.CallbackAfterChangeGroupOwner",
    /// Members joined a group.
    AfterNewMemberJoin = "Group.CallbackAfterNewMemberJoin",
    /// Members left a group.
    AfterMemberExit = "Group.CallbackAfterMemberExit",
    /// A group was destroyed.
    AfterGroupDestroyed = "Group.CallbackAfterGroupDestroyed",
    /// A message is about to be sent to a group.
    BeforeSendMsg = "Group.CallbackBeforeSendMsg",
    /// A one-to-one message is about to be sent.
    BeforeC2cSendMsg = "C2C.CallbackBeforeSendMsg",
    /// Pairs of a message of a group are about to change. Beyond the documented API.
    BeforeGroupMsgExtension = "Group.CallbackBeforeGroupMsgExtension",
}

impl Callback {
    /// The webhook of this command.
    pub fn named(command: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|callback| callback.command() == command)
    }

    /// Whether it asks before something happens, rather than telling that it did.
    pub const fn asks(self) -> bool {
        matches!(self, Self::BeforeSendMsg | Self::BeforeC2cSendMsg | Self::BeforeGroupMsgExtension)
    }
}

impl fmt::Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_webhook_is_found_by_its_command_and_by_no_other() {
        for callback in Callback::ALL {
            assert_eq!(Callback::named(callback.command()), Some(*callback));
            assert_eq!(callback.asks(), callback.command().contains("Before"));
        }
        for wrong in ["", "Group.CallbackAfterSendMsg ", "group.callbackaftersendmsg", "CallbackAfterSendMsg"]
        {
            assert_eq!(Callback::named(wrong), None);
        }
    }
}
