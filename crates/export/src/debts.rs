//! A debt as a line.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sidenote_core::debt::{Debt, Task};
use sidenote_core::ids::{AccountId, AppId, ConversationId, EventNumber, Timestamp};

use crate::names::{ConversationText, FingerprintText, IncarnationText, NameText, Read, TinyIdText, user};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DebtLine<'a> {
    due: u64,
    task: TaskPart<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum TaskPart<'a> {
    Announce {
        app: u32,
        conversation: ConversationText,
        incarnation: IncarnationText,
        event: u64,
    },
    Forsake {
        app: u32,
        user: Cow<'a, str>,
        tiny_id: TinyIdText,
    },
    Reap {
        app: u32,
        conversation: ConversationText,
        incarnation: IncarnationText,
    },
    Strip {
        app: u32,
        conversation: ConversationText,
        incarnation: IncarnationText,
        message: NameText,
    },
    ForgetSend {
        app: u32,
        conversation: ConversationText,
        incarnation: IncarnationText,
        fingerprint: FingerprintText,
    },
    TrimEvents {
        app: u32,
        conversation: ConversationText,
        incarnation: IncarnationText,
    },
}

impl<'a> DebtLine<'a> {
    pub(crate) fn of(debt: &'a Debt) -> Self {
        let home = |id: &ConversationId| (id.app.get(), ConversationText::from(&id.conversation));
        let task = match &debt.task {
            Task::Announce(id, incarnation, number) => {
                let ((app, conversation), incarnation) = (home(id), IncarnationText(*incarnation));
                TaskPart::Announce { app, conversation, incarnation, event: number.get() }
            }
            Task::Forsake(account, tiny_id) => TaskPart::Forsake {
                app: account.app.get(),
                user: account.user.as_str().into(),
                tiny_id: TinyIdText(*tiny_id),
            },
            Task::Reap(id, incarnation) => {
                let ((app, conversation), incarnation) = (home(id), IncarnationText(*incarnation));
                TaskPart::Reap { app, conversation, incarnation }
            }
            Task::Strip(id, incarnation, message) => {
                let ((app, conversation), incarnation) = (home(id), IncarnationText(*incarnation));
                TaskPart::Strip { app, conversation, incarnation, message: (*message).into() }
            }
            Task::ForgetSend(id, incarnation, fingerprint) => {
                let ((app, conversation), incarnation) = (home(id), IncarnationText(*incarnation));
                let fingerprint = FingerprintText(*fingerprint);
                TaskPart::ForgetSend { app, conversation, incarnation, fingerprint }
            }
            Task::TrimEvents(id, incarnation) => {
                let ((app, conversation), incarnation) = (home(id), IncarnationText(*incarnation));
                TaskPart::TrimEvents { app, conversation, incarnation }
            }
        };
        Self { due: debt.due.millis(), task }
    }

    pub(crate) fn read(self) -> Read<Debt> {
        let home = |app: u32, conversation: &ConversationText| -> Read<ConversationId> {
            Ok(ConversationId { app: AppId::new(app), conversation: conversation.read()? })
        };
        let task = match self.task {
            TaskPart::Announce { app, conversation, incarnation, event } => {
                Task::Announce(home(app, &conversation)?, incarnation.0, EventNumber::new(event))
            }
            TaskPart::Forsake { app, user: name, tiny_id } => {
                Task::Forsake(AccountId { app: AppId::new(app), user: user(&name)? }, tiny_id.0)
            }
            TaskPart::Reap { app, conversation, incarnation } => {
                Task::Reap(home(app, &conversation)?, incarnation.0)
            }
            TaskPart::Strip { app, conversation, incarnation, message } => {
                Task::Strip(home(app, &conversation)?, incarnation.0, message.read()?)
            }
            TaskPart::ForgetSend { app, conversation, incarnation, fingerprint } => {
                Task::ForgetSend(home(app, &conversation)?, incarnation.0, fingerprint.0)
            }
            TaskPart::TrimEvents { app, conversation, incarnation } => {
                Task::TrimEvents(home(app, &conversation)?, incarnation.0)
            }
        };
        Ok(Debt { due: Timestamp::from_millis(self.due), task })
    }
}
