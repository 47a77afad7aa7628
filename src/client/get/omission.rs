//! What a get could not restore, or not as it was.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::mem;
use std::sync::mpsc::Sender;

use serde::{Deserialize, Serialize};

use crate::human;

/// Omissions of one kind that are named one by one. Further ones are counted: a target without modes, for example, has
/// as many of them as files.
const MAX_NAMED_OF_A_KIND: usize = 20;

/// Something that could not be restored, or not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreOmission {
    /// Its path in the directory that is restored, or the path of the file. Any bytes but 0.
    pub path: Vec<u8>,
    /// What is missing, and why.
    pub reason: RestoreOmissionReason,
}

/// What is missing, and why. `os_error` is the number of the system's error; without one, the target accepted the
/// request and did something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RestoreOmissionReason {
    /// A type that is never restored, with its type in the archive.
    Special {
        /// The type in the header, such as `b'6'` for a FIFO.
        flag: u8,
    },
    /// The target does not accept it: its name, its size, or its type. It is not restored.
    Refused {
        /// The error.
        os_error: i32,
    },
    /// The target does not tell its name from that of another entry. It is not restored.
    Collision,
    /// The directory that it is in was not restored.
    InOmittedDirectory,
    /// Its path leads through a link or a file. It is not restored.
    NotInDirectory,
    /// It is in more directories than are restored.
    TooDeep,
    /// The file of which it is another name was not restored. Neither is this name.
    LinkTarget {
        /// The path of that file.
        target: Vec<u8>,
    },
    /// Another name of a file became a copy of the file.
    CopiedLink {
        /// Why there is no link.
        os_error: i32,
    },
    /// It is not set-user-id or not set-group-id: it belongs to another user or group than it did.
    SetId,
    /// It belongs to another user or group than it did.
    Owner {
        /// The error, if any.
        os_error: Option<i32>,
    },
    /// It has other permissions.
    Mode {
        /// The error, if any.
        os_error: Option<i32>,
    },
    /// It has another time of modification.
    Time {
        /// The error, if any.
        os_error: Option<i32>,
    },
    /// It lacks an extended attribute.
    Attribute {
        /// The name of the attribute.
        name: Vec<u8>,
        /// The error.
        os_error: i32,
    },
    /// It lacks its access control list, and its group got no more permissions for that.
    Acl {
        /// The error, or none if the list in the archive is malformed.
        os_error: Option<i32>,
    },
}

impl RestoreOmissionReason {
    /// Omissions of one kind are those with the same variant.
    fn kind(&self) -> mem::Discriminant<Self> {
        mem::discriminant(self)
    }
}

/// An error of the system as text after `: `, if there is one.
struct Because(Option<i32>);

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, ": {}", io::Error::from_raw_os_error(number)),
            None => f.write_str(": the target does not keep it"),
        }
    }
}

impl fmt::Display for RestoreOmissionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Special { flag } => write!(f, "not restored: it is {}", type_name(*flag)),
            Self::Refused { os_error } => write!(f, "not restored{}", Because(Some(*os_error))),
            Self::Collision => f.write_str("not restored: another entry has this name on the target"),
            Self::InOmittedDirectory => f.write_str("not restored: its directory was not"),
            Self::NotInDirectory => f.write_str("not restored: its path leads through a link or a file"),
            Self::TooDeep => f.write_str("not restored: it is in too many directories"),
            Self::LinkTarget { target } => {
                write!(f, "not restored: it is another name of {}, which was not", human::shown(target))
            }
            Self::CopiedLink { os_error } => {
                write!(f, "restored as a copy in place of a hard link{}", Because(Some(*os_error)))
            }
            Self::SetId => f.write_str("restored without set-user-id or set-group-id: it has another owner now"),
            Self::Owner { os_error } => write!(f, "restored without its owner{}", Because(*os_error)),
            Self::Mode { os_error } => write!(f, "restored without its permissions{}", Because(*os_error)),
            Self::Time { os_error } => write!(f, "restored without its time of modification{}", Because(*os_error)),
            Self::Attribute { name, os_error } => {
                write!(f, "restored without its extended attribute {}{}", human::shown(name), Because(Some(*os_error)))
            }
            Self::Acl { os_error: None } => {
                f.write_str("restored without its access control list: the list is malformed")
            }
            Self::Acl { os_error } => write!(f, "restored without its access control list{}", Because(*os_error)),
        }
    }
}

fn type_name(flag: u8) -> String {
    match flag {
        b'3' => "a character device".to_owned(),
        b'4' => "a block device".to_owned(),
        b'6' => "a FIFO".to_owned(),
        _ => format!("of type {}", human::shown(&[flag])),
    }
}

impl fmt::Display for RestoreOmission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", human::shown(&self.path), self.reason)
    }
}

/// Where omissions go.
pub(in crate::client) struct OmissionSink {
    sender: Sender<RestoreOmission>,
    /// Those since they were last taken.
    sent: RefCell<Vec<RestoreOmission>>,
}

impl OmissionSink {
    pub(in crate::client) fn new(sender: Sender<RestoreOmission>) -> Self {
        Self { sender, sent: RefCell::default() }
    }

    pub(in crate::client) fn one(&self, path: &[u8], reason: RestoreOmissionReason) {
        let omission = RestoreOmission { path: path.to_owned(), reason };
        self.sent.borrow_mut().push(omission.clone());
        self.again(omission);
    }

    /// Reports what an interrupted get has reported before.
    pub(in crate::client) fn again(&self, omission: RestoreOmission) {
        // If the receiver is gone, the restore has failed already.
        let _ = self.sender.send(omission);
    }

    /// Those that were new since the last call.
    pub(in crate::client) fn take_sent(&self) -> Vec<RestoreOmission> {
        self.sent.take()
    }

    pub(in crate::client) fn all(&self, path: &[u8], reasons: Vec<RestoreOmissionReason>) {
        for reason in reasons {
            self.one(path, reason);
        }
    }
}

/// The omissions of a get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::client) struct RestoreOmissions {
    count: usize,
    named: Vec<RestoreOmission>,
    kinds: Vec<Kind>,
}

/// The omissions of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    last: RestoreOmissionReason,
    count: usize,
}

impl RestoreOmissions {
    /// Counts one. Returns it if it is to be named.
    pub(in crate::client) fn add(&mut self, omission: RestoreOmission) -> Option<&RestoreOmission> {
        self.count += 1;
        let reason = omission.reason.clone();
        let position = self.kinds.iter().position(|kind| kind.last.kind() == reason.kind());
        let before = position.map_or(0, |position| self.kinds.swap_remove(position).count);
        self.kinds.push(Kind { last: reason, count: before + 1 });
        if before >= MAX_NAMED_OF_A_KIND {
            return None;
        }
        self.named.push(omission);
        self.named.last()
    }

    /// For each kind of which not all were named: the last reason, and the number of those that were not.
    pub(in crate::client) fn unnamed(&self) -> impl Iterator<Item = (&RestoreOmissionReason, usize)> {
        let unnamed = |kind: &Kind| kind.count.saturating_sub(MAX_NAMED_OF_A_KIND);
        self.kinds.iter().map(move |kind| (&kind.last, unnamed(kind))).filter(|(_, count)| *count > 0)
    }

    pub(in crate::client) fn count(&self) -> usize {
        self.count
    }

    /// Those that were named.
    pub(in crate::client) fn into_named(self) -> Vec<RestoreOmission> {
        self.named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_messages_are_escaped() {
        let omission = RestoreOmission { path: b"a\x1b\xff".to_vec(), reason: RestoreOmissionReason::Collision };
        assert!(omission.to_string().starts_with("a\\u{1b}\\xff: not restored"), "{omission}");
        let reason = RestoreOmissionReason::Attribute { name: b"user.\n".to_vec(), os_error: 1 };
        assert!(reason.to_string().contains("user.\\n: "), "{reason}");
    }

    #[test]
    fn many_omissions_of_one_kind_are_counted_and_not_named() {
        let mut omissions = RestoreOmissions::default();
        let mut named = 0;
        for number in 0..100_000 {
            let reason = RestoreOmissionReason::Mode { os_error: Some(number) };
            named += usize::from(omissions.add(RestoreOmission { path: b"f".to_vec(), reason }).is_some());
        }
        assert!(
            omissions.add(RestoreOmission { path: b"g".to_vec(), reason: RestoreOmissionReason::Collision }).is_some()
        );
        assert_eq!((named, omissions.count()), (20, 100_001));
        let unnamed: Vec<_> = omissions.unnamed().map(|(reason, count)| (reason.kind(), count)).collect();
        assert_eq!(unnamed, [(RestoreOmissionReason::Mode { os_error: None }.kind(), 99_980)]);
        assert_eq!(omissions.into_named().len(), 21);
    }
}
