//! Threads for requests to cells. A thread that is free is used again, since a new one for each chunk costs more than
//! its request: it has a stack and memory of its own, which it must take from the system first.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread;

use crate::sync::lock;

type Task = Box<dyn FnOnce() + Send>;

/// The threads that wait for a task.
type Idle = Mutex<Vec<Sender<Task>>>;

/// Runs each task at once, on a thread that is free or on a new one. After this is dropped, each thread ends with its
/// task.
#[derive(Debug, Default)]
pub(super) struct RequestThreads {
    idle: Arc<Idle>,
}

impl RequestThreads {
    /// Starts a task. It is dropped without being run if the system has no more threads.
    pub(super) fn run(&self, task: impl FnOnce() + Send + 'static) {
        let mut task: Task = Box::new(task);
        // A thread that is gone gives the task back.
        while let Some(thread) = lock(&self.idle).pop() {
            match thread.send(task) {
                Ok(()) => return,
                Err(unsent) => task = unsent.0,
            }
        }
        let idle = Arc::downgrade(&self.idle);
        let _: io::Result<_> = thread::Builder::new().spawn(move || serve(task, &idle));
    }
}

/// Runs a task, and those that follow.
fn serve(first: Task, idle: &Weak<Idle>) {
    let mut task = first;
    loop {
        task();
        let (sender, tasks) = channel();
        let Some(idle) = idle.upgrade() else { return };
        lock(&idle).push(sender);
        drop(idle);
        let Ok(next) = tasks.recv() else { return };
        task = next;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, RecvTimeoutError};
    use std::time::Duration;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    /// Starts a task that names its thread and then waits for the end of a channel.
    fn start(threads: &RequestThreads) -> (Receiver<thread::ThreadId>, Sender<()>) {
        let ((sender, started), (finish, finished)) = (channel(), channel::<()>());
        threads.run(move || {
            sender.send(thread::current().id()).unwrap();
            let _ = finished.recv();
        });
        (started, finish)
    }

    fn wait_for_idle(threads: &RequestThreads, count: usize) {
        let deadline = std::time::Instant::now() + DEADLINE;
        while lock(&threads.idle).len() != count {
            assert!(std::time::Instant::now() < deadline, "the threads do not become idle");
            thread::yield_now();
        }
    }

    #[test]
    fn a_free_thread_is_used_again_and_a_busy_one_is_not() {
        let threads = RequestThreads::default();
        let (first, finish_first) = start(&threads);
        let first_id = first.recv_timeout(DEADLINE).unwrap();
        let (second, finish_second) = start(&threads);
        let second_id = second.recv_timeout(DEADLINE).unwrap();
        assert_ne!(first_id, second_id, "the first one is busy");
        drop(finish_first);
        wait_for_idle(&threads, 1);
        let (third, finish_third) = start(&threads);
        assert_eq!(third.recv_timeout(DEADLINE).unwrap(), first_id);
        drop((finish_second, finish_third));
        wait_for_idle(&threads, 2);
    }

    #[test]
    fn a_task_that_panics_ends_only_its_own_thread() {
        let threads = RequestThreads::default();
        threads.run(|| panic!("a panic of the test"));
        let (started, _finish) = start(&threads);
        started.recv_timeout(DEADLINE).unwrap();
    }

    #[test]
    fn idle_threads_end_when_nothing_can_use_them() {
        thread_local! { static GUARD: std::cell::RefCell<Option<Sender<()>>> = const { std::cell::RefCell::new(None) } }
        let threads = RequestThreads::default();
        // The sender is dropped when its thread ends.
        let (sender, ended) = channel();
        threads.run(move || GUARD.set(Some(sender)));
        wait_for_idle(&threads, 1);
        assert_eq!(ended.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
        drop(threads);
        assert_eq!(ended.recv_timeout(DEADLINE), Err(RecvTimeoutError::Disconnected));
    }
}
