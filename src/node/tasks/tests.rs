use std::sync::mpsc;

use smol::channel::Receiver;

use super::*;
use crate::cell::{LocalCopy, ProbeOutcome};
use crate::net::test_server::{TestServer, response, unreachable_address};
use crate::node::mailbox::{ColonySnapshot, next_input};
use crate::store::{MemoryStore, PutMetadata};
use crate::wire::holder_hints::parse_holder_hints;

const LONG: Duration = Duration::from_secs(20);

fn cell(n: u8) -> CellId {
    CellId::from_bytes([n; 16])
}

fn store_with(chunks: &[&[u8]]) -> Arc<dyn Store> {
    let store = MemoryStore::new(1 << 20);
    let metadata = PutMetadata { copies: 5, bare: false, holders: vec![cell(9)], owner: None, stored_at_s: 1 };
    for bytes in chunks {
        store.put(None, bytes.len() as u64, &mut &bytes[..], &metadata).unwrap();
    }
    Arc::new(store)
}

fn runner(store: &Arc<dyn Store>) -> (Arc<TaskRunner>, Receiver<Input>) {
    let (mailbox, inputs) = Mailbox::stub(ColonySnapshot::of_lone_cell());
    (Arc::new(TaskRunner::new(Arc::clone(store), mailbox, unreachable_address())), inputs)
}

/// Runs a task and returns the inputs that the core receives.
fn run(store: &Arc<dyn Store>, task: Task) -> Vec<Input> {
    let (runner, receiver) = runner(store);
    smol::block_on(runner.run(task));
    let mut inputs = Vec::new();
    while let Some(input) = next_input(&receiver) {
        inputs.push(input);
    }
    inputs
}

/// A cell was taken for one that does not answer while the queries waited in this cell's own queue.
#[test]
fn a_query_that_never_had_its_turn_says_nothing_about_the_cell() {
    let store = store_with(&[]);
    let (mailbox, inputs) = Mailbox::stub(ColonySnapshot::of_lone_cell());
    let mut runner = TaskRunner::new(Arc::clone(&store), mailbox, unreachable_address());
    runner.queries = Slots::new(0, Duration::from_millis(10));
    let query = Task::QueryHave { task_id: TaskId(3), to: unreachable_address(), chunks: vec![ChunkId::of(b"x")] };
    smol::block_on(Arc::new(runner).run(query));
    let outcome = next_input(&inputs);
    assert!(matches!(outcome, Some(Input::Copy(CopyInput::QueryDone { outcome: QueryOutcome::NotAsked, .. }))));
}

#[test]
fn every_failed_task_is_reported_once() {
    let (store, chunk, to) = (store_with(&[b"here"]), ChunkId::of(b"here"), unreachable_address());
    let missing = ChunkId::of(b"not here");
    let (task_id, copies, holders) = (TaskId(3), 5, Vec::new());

    let probe = Task::Probe { task_id, address: to.to_string(), announce: true };
    let [Input::Member(MemberInput::ProbeDone { task_id: TaskId(3), outcome: ProbeOutcome::Unreachable })] =
        run(&store, probe)[..]
    else {
        panic!("no probe")
    };
    let query = Task::QueryHave { task_id, to, chunks: vec![chunk] };
    let [Input::Copy(CopyInput::QueryDone { task_id: TaskId(3), outcome: QueryOutcome::Unanswered })] =
        run(&store, query)[..]
    else {
        panic!("no query")
    };
    let send = Task::Send { task_id, chunk, to, copies, bare: false, holders: holders.clone() };
    let [Input::Copy(CopyInput::SendDone { task_id: TaskId(3), outcome: SendOutcome::Failed })] = run(&store, send)[..]
    else {
        panic!("no send")
    };
    let fetch = Task::Fetch { task_id, chunk: missing, from: to, copies, bare: false, holders };
    let [Input::Copy(CopyInput::FetchDone { task_id: TaskId(3), outcome: FetchOutcome::Failed })] =
        run(&store, fetch)[..]
    else {
        panic!("no fetch")
    };
    let audit = Task::Audit { task_id, from: to, target: AuditTarget::Chunk(chunk) };
    let [Input::Copy(CopyInput::AuditDone { task_id: TaskId(3), outcome: AuditOutcome::Failed })] =
        run(&store, audit)[..]
    else {
        panic!("no audit")
    };
}

/// The core may have abandoned the healing round of the task.
#[test]
fn a_copy_that_is_gone_when_it_is_sent_is_reported_by_its_id_too() {
    let (task_id, chunk, to) = (TaskId(3), ChunkId::of(b"not here"), unreachable_address());
    let inputs = run(&store_with(&[]), Task::Send { task_id, chunk, to, copies: 5, bare: false, holders: Vec::new() });
    let [
        Input::Copy(CopyInput::SendDone { task_id: TaskId(3), outcome: SendOutcome::OwnCopyGone }),
        Input::Copy(CopyInput::Gone(id)),
    ] = inputs[..]
    else {
        panic!("{inputs:?}")
    };
    assert_eq!(id, chunk);
}

#[test]
fn a_verification_reports_its_result_and_a_removal_nothing() {
    let (store, here) = (store_with(&[b"here"]), ChunkId::of(b"here"));
    let verify = |id| match run(&store, Task::Verify(id))[..] {
        [Input::Copy(CopyInput::VerifyDone { chunk, outcome })] if chunk == id => outcome,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(verify(here), VerifyOutcome::Good);
    assert_eq!(verify(ChunkId::of(b"missing")), VerifyOutcome::Missing);
    // The core has removed it from its replica map already, and must not take it for lost.
    assert!(run(&store, Task::Remove(here)).is_empty());
    assert!(!store.contains(&here).unwrap());
}

#[test]
fn hints_and_alerts_reach_the_cells_that_respond() {
    let peer = TestServer::always(response(200, b""));
    let (chunk, found) = (ChunkId::of(b"x"), ChunkId::of(b"y"));
    let hints = vec![HolderHint { id: chunk, holders: vec![cell(1), cell(2)] }];
    assert!(run(&store_with(&[]), Task::SendHints { to: peer.address, hints: hints.clone() }).is_empty());
    let alert = Alert { node_id: cell(1), culprit: cell(2), chunk, found };
    let to = vec![unreachable_address(), peer.address];
    assert!(run(&store_with(&[]), Task::SendAlert { alert, to }).is_empty());
    let [first, second] = &peer.requests()[..] else { panic!("two requests") };
    assert_eq!(first.line(), "POST /chunks/holders");
    assert_eq!(parse_holder_hints(&first.body).unwrap(), hints);
    assert_eq!(second.line(), "POST /alert");
    assert_eq!(serde_json::from_slice::<Alert>(&second.body).unwrap(), alert);
}

/// All slots of two kinds are taken by requests to a cell that never responds.
#[test]
fn no_kind_of_task_delays_another() {
    let (finish, finishing) = mpsc::channel::<()>();
    let finishing = std::sync::Mutex::new(finishing);
    let hanging = TestServer::answering(move |_| {
        let _ = finishing.lock().unwrap().recv_timeout(LONG);
        response(503, b"")
    });
    let store = store_with(&[b"here"]);
    let (runner, inputs) = runner(&store);
    let tasks = smol::LocalExecutor::new();
    let start = |task| tasks.spawn(Arc::clone(&runner).run(task)).detach();
    let here = ChunkId::of(b"here");
    for n in 0..QUERIES as u64 + 3 {
        start(Task::QueryHave { task_id: TaskId(n), to: hanging.address, chunks: vec![ChunkId::of(b"x")] });
    }
    for _ in 0..HINTS + 2 {
        let hints = vec![HolderHint { id: here, holders: vec![cell(1)] }];
        start(Task::SendHints { to: hanging.address, hints });
    }
    let peer = TestServer::always(response(200, b"here"));
    start(Task::Fetch {
        task_id: TaskId(99),
        chunk: here,
        from: peer.address,
        copies: 5,
        bare: false,
        holders: vec![cell(1)],
    });
    start(Task::Audit { task_id: TaskId(98), from: peer.address, target: AuditTarget::Chunk(here) });
    start(Task::Verify(here));
    let mut ended = 0;
    smol::block_on(tasks.run(async {
        while ended < 3 {
            match inputs.recv().await.unwrap() {
                Input::Copy(
                    CopyInput::FetchDone { task_id: TaskId(99), outcome: FetchOutcome::Stored }
                    | CopyInput::AuditDone { task_id: TaskId(98), outcome: AuditOutcome::Good { .. } }
                    | CopyInput::VerifyDone { outcome: VerifyOutcome::Good, .. },
                ) => ended += 1,
                other => panic!("{other:?}"),
            }
        }
    }));
    drop(finish);
}

#[test]
fn a_copy_that_is_stored_after_the_timeout_is_reported() {
    let store = store_with(&[b"here"]);
    let (runner, inputs) = runner(&store);
    let late_copies = runner.copies.clone();
    let here = ChunkId::of(b"here");
    // Long enough for the work to start, on a busy machine too: work that has not started in time is dropped.
    let slots = Slots::new(1, Duration::from_secs(1));
    let (finish, finished) = mpsc::channel::<()>();
    let slow = move || {
        // Fails when the test drops the other end.
        let _ = finished.recv();
    };
    let too_late = move |()| late_copies.report_if_present(&here);
    assert_eq!(smol::block_on(slots.run(slow, too_late)), None);
    drop(finish);
    let Some(Input::Copy(CopyInput::Present(copies))) = next_input(&inputs) else { panic!("no report") };
    assert_eq!(copies, [LocalCopy { id: here, len: 4, copies: 5, bare: false, holders: vec![cell(9)] }]);
}
