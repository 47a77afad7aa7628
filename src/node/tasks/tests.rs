use std::sync::mpsc;

use smol::channel::Receiver;

use crate::cell::{AuditTarget, CopyInput, LocalCopy, Task};
use crate::id::CellId;
use crate::net::test_server::{TestServer, response, unreachable_address};
use crate::node::mailbox::{ColonySnapshot, next_input};
use crate::node::tasks::*;
use crate::store::{MemoryStore, PutMetadata};
use crate::wire::holder_hints::parse_holder_hints;
use crate::wire::id_lists::{parse_ids, write_ids};

const PATIENCE: Duration = Duration::from_secs(20);

fn cell(n: u8) -> CellId {
    CellId::from_bytes([n; 16])
}

fn store_of(chunks: &[&[u8]]) -> Arc<dyn Store> {
    let store = MemoryStore::new(1 << 20);
    let metadata = PutMetadata { copies: 5, holders: vec![cell(9)], owner: None, stored_at_s: 1 };
    for bytes in chunks {
        store.put(None, bytes.len() as u64, &mut &bytes[..], &metadata).unwrap();
    }
    Arc::new(store)
}

fn runner(store: &Arc<dyn Store>) -> (Arc<TaskRunner>, Receiver<Input>) {
    let (mailbox, heard) = Mailbox::stub(ColonySnapshot::of_lone_cell());
    (Arc::new(TaskRunner::new(Arc::clone(store), mailbox, unreachable_address())), heard)
}

/// Does it, and gathers all that the core hears of it.
fn what_comes_of(store: &Arc<dyn Store>, task: Task) -> Vec<Input> {
    let (runner, heard) = runner(store);
    smol::block_on(runner.run(task));
    // No other is left that could tell anything: all that there is was told once this is.
    let mut inputs = Vec::new();
    while let Some(input) = next_input(&heard) {
        inputs.push(input);
    }
    inputs
}

#[test]
fn of_what_a_cell_says_it_has_only_what_was_asked_for_counts() {
    let ids: Vec<ChunkId> = (0..2500u64).map(|n| ChunkId::of(&n.to_le_bytes())).collect();
    let (had, asked) = (ids[..2].to_vec(), ids.clone());
    let peer = TestServer::answering(move |request| {
        let asked = parse_ids(&request.body).unwrap();
        assert!(asked.len() <= IDS_AT_ONCE);
        // Twice what it has, and much that nobody asked about.
        let says = [&had[..], &had[..], &vec![ChunkId::of(b"never asked for"); 1000]].concat();
        response(200, write_ids(&says).as_bytes())
    });
    let ask = Task::QueryHave { task_id: TaskId(7), to: peer.address, chunks: asked };
    let [Input::Copy(CopyInput::QueryDone { task_id: TaskId(7), has: Some(has) })] =
        &what_comes_of(&store_of(&[]), ask)[..]
    else {
        panic!("one answer")
    };
    let mut expected = ids[..2].to_vec();
    expected.sort_unstable();
    assert_eq!(*has, expected);
    let requests = peer.requests();
    let mut all: Vec<ChunkId> = requests.iter().flat_map(|request| parse_ids(&request.body).unwrap()).collect();
    all.sort_unstable();
    assert_eq!((requests.len(), all.len()), (3, 2500));
    assert!(requests.iter().all(|request| request.line() == "POST /chunks/have"));
}

#[test]
fn who_does_not_answer_a_question_is_told_from_one_who_has_nothing() {
    let ids = vec![ChunkId::of(b"x")];
    for (to, expected) in [
        (TestServer::always(response(200, b"")).address, Some(Vec::new())),
        (TestServer::always(response(503, b"")).address, None),
        (TestServer::always(response(200, b"not an id\n")).address, None),
        (unreachable_address(), None),
    ] {
        let inputs = what_comes_of(&store_of(&[]), Task::QueryHave { task_id: TaskId(1), to, chunks: ids.clone() });
        let [Input::Copy(CopyInput::QueryDone { task_id: TaskId(1), has })] = &inputs[..] else { panic!("{inputs:?}") };
        assert_eq!(*has, expected);
    }
}

#[test]
fn each_errand_with_a_ticket_comes_back_once_whatever_becomes_of_it() {
    let (store, chunk, to) = (store_of(&[b"here"]), ChunkId::of(b"here"), unreachable_address());
    let (task_id, holders) = (TaskId(3), Vec::new());
    let send = Task::Send { task_id, chunk, to, copies: 5, holders: holders.clone() };
    assert!(matches!(
        what_comes_of(&store, send)[..],
        [Input::Copy(CopyInput::SendDone { task_id: TaskId(3), outcome: SendOutcome::Failed })]
    ));
    let gone = ChunkId::of(b"not here");
    let send = Task::Send { task_id, chunk: gone, to, copies: 5, holders: holders.clone() };
    // Also by its name: the round that wanted it sent may have been given up.
    let inputs = what_comes_of(&store, send);
    assert!(
        matches!(inputs[..], [Input::Copy(CopyInput::SendDone { task_id: TaskId(3), outcome: SendOutcome::OwnCopyGone }), Input::Copy(CopyInput::Gone(id))] if id == gone),
        "{inputs:?}"
    );
    let fetch = Task::Fetch { task_id, chunk: gone, from: to, copies: 5, holders };
    assert!(matches!(
        what_comes_of(&store, fetch)[..],
        [Input::Copy(CopyInput::FetchDone { task_id: TaskId(3), outcome: FetchOutcome::Failed })]
    ));
    let audit = Task::Audit { task_id, from: to, target: AuditTarget::Chunk(chunk) };
    assert!(matches!(
        what_comes_of(&store, audit)[..],
        [Input::Copy(CopyInput::AuditDone { task_id: TaskId(3), outcome: AuditOutcome::Failed })]
    ));
}

#[test]
fn a_copy_is_checked_and_one_too_many_removed() {
    let (store, here) = (store_of(&[b"here"]), ChunkId::of(b"here"));
    let verified = |id| match what_comes_of(&store, Task::Verify(id))[..] {
        [Input::Copy(CopyInput::VerifyDone { chunk: about, outcome: how })] if about == id => how,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(verified(here), VerifyOutcome::Good);
    assert_eq!(verified(ChunkId::of(b"missing")), VerifyOutcome::Missing);
    // The core has forgotten it already, and must not take it for lost.
    assert!(what_comes_of(&store, Task::Remove(here)).is_empty());
    assert!(!store.contains(&here).unwrap());
}

#[test]
fn news_and_alerts_reach_those_who_are_there() {
    let peer = TestServer::always(response(200, b""));
    let (chunk, found) = (ChunkId::of(b"x"), ChunkId::of(b"y"));
    let news = vec![HolderHint { id: chunk, holders: vec![cell(1), cell(2)] }];
    assert!(what_comes_of(&store_of(&[]), Task::SendHints { to: peer.address, hints: news }).is_empty());
    let alert = Alert { node_id: cell(1), culprit: cell(2), chunk, found };
    let to = vec![unreachable_address(), peer.address];
    assert!(what_comes_of(&store_of(&[]), Task::SendAlert { alert, to }).is_empty());
    let [told, warned] = &peer.requests()[..] else { panic!("two requests") };
    assert_eq!(told.line(), "POST /chunks/holders");
    assert_eq!(
        parse_holder_hints(&told.body).unwrap()[..],
        [HolderHint { id: chunk, holders: vec![cell(1), cell(2)] }]
    );
    assert_eq!(warned.line(), "POST /alert");
    assert_eq!(serde_json::from_slice::<Alert>(&warned.body).unwrap(), alert);
}

#[test]
fn an_errand_that_takes_too_long_has_failed_and_what_comes_of_it_is_not_lost() {
    let places = Arc::new(Semaphore::new(1));
    let (go_on, goes_on) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let tell_too = tell.clone();
    let slow = move || {
        goes_on.recv_timeout(PATIENCE).unwrap();
        "done"
    };
    let too_late = move |result| tell.send(result).unwrap();
    let limit = Duration::from_millis(50);
    assert_eq!(smol::block_on(errand(&places, limit, slow, too_late)), None);
    // It still has its place: the next one cannot begin, and when it is given up it never does.
    let next = move || tell_too.send("begun").unwrap();
    assert_eq!(smol::block_on(errand(&places, limit, next, drop)), None);
    go_on.send(()).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "done");
    assert_eq!(smol::block_on(errand(&places, PATIENCE, || "in time", drop)), Some("in time"));
    assert!(told.try_recv().is_err());
}

/// Every place of one kind is taken by cells that never answer.
#[test]
fn no_kind_of_errand_holds_up_another() {
    let (let_go, waits) = mpsc::channel::<()>();
    let waits = std::sync::Mutex::new(waits);
    let silent = TestServer::answering(move |_| {
        let _ = waits.lock().unwrap().recv_timeout(PATIENCE);
        response(503, b"")
    });
    let store = store_of(&[b"here"]);
    let (runner, heard) = runner(&store);
    let tasks = smol::LocalExecutor::new();
    let ids = vec![ChunkId::of(b"x")];
    for n in 0..ASKS as u64 + 3 {
        let ask = Task::QueryHave { task_id: TaskId(n), to: silent.address, chunks: ids.clone() };
        tasks.spawn(Arc::clone(&runner).run(ask)).detach();
    }
    let news = vec![HolderHint { id: ids[0], holders: vec![cell(1)] }];
    for _ in 0..TELLS + 2 {
        tasks.spawn(Arc::clone(&runner).run(Task::SendHints { to: silent.address, hints: news.clone() })).detach();
    }
    let here = ChunkId::of(b"here");
    let good = TestServer::always(response(200, b"here"));
    let fetch = Task::Fetch { task_id: TaskId(99), chunk: here, from: good.address, copies: 5, holders: vec![cell(1)] };
    let audit = Task::Audit { task_id: TaskId(98), from: good.address, target: AuditTarget::Chunk(here) };
    for task in [fetch, audit, Task::Verify(here)] {
        tasks.spawn(Arc::clone(&runner).run(task)).detach();
    }
    let mut ended = 0;
    smol::block_on(tasks.run(async {
        while ended < 3 {
            match heard.recv().await.unwrap() {
                Input::Copy(
                    CopyInput::FetchDone { task_id: TaskId(99), outcome: FetchOutcome::Stored }
                    | CopyInput::AuditDone { task_id: TaskId(98), outcome: AuditOutcome::Good { .. } }
                    | CopyInput::VerifyDone { outcome: VerifyOutcome::Good, .. },
                ) => ended += 1,
                other => panic!("{other:?}"),
            }
        }
    }));
    drop(let_go);
}

#[test]
fn a_copy_that_comes_too_late_is_told_all_the_same() {
    let store = store_of(&[b"here"]);
    let (runner, heard) = runner(&store);
    let late = runner.copies.clone();
    let here = ChunkId::of(b"here");
    let too_late = move |()| late.report_if_present(&here);
    let slow = || std::thread::park_timeout(Duration::from_millis(200));
    assert_eq!(smol::block_on(errand(&runner.places.transfers, Duration::from_millis(1), slow, too_late)), None);
    let Some(Input::Copy(CopyInput::Present(held))) = next_input(&heard) else { panic!() };
    assert_eq!(held, [LocalCopy { id: here, len: 4, copies: 5, holders: vec![cell(9)] }]);
}
