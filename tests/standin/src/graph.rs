//! Captured streams, the graphs made of them, and their launches: what was issued is kept and issued again.
//!
//! A graph runs on threads of its own, one per captured stream, so that what its events do not order really runs in
//! any order. The rules of a capture are those of the driver: waits must not leave it, streams must come back to the
//! first, and nothing in it may be waited for by the host.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::state::State;
use crate::stream::{self, Event, Stream, Work};
use crate::{INVALID_HANDLE, INVALID_VALUE, SUCCESS, Status};

pub const CAPTURE_UNSUPPORTED: Status = 900;
pub const CAPTURE_UNMATCHED: Status = 903;
pub const CAPTURE_UNJOINED: Status = 904;
pub const CAPTURE_ISOLATION: Status = 905;
pub const CAPTURED_EVENT: Status = 907;

/// One captured operation.
#[derive(Clone)]
enum Node {
    Work(Work),
    /// An event of the graph's own, by number.
    Record(usize),
    Wait(usize),
    /// An event that is known outside.
    Outside(Arc<Event>),
}

#[derive(Clone, Default)]
struct Graph {
    /// By captured stream: the operations, with the stream they were issued to, in order of issue.
    nodes: Vec<(usize, Node)>,
    streams: usize,
    events: usize,
}

struct Capture {
    graph: Graph,
    /// Streams by handle, in order of joining; the first is the origin.
    streams: Vec<u64>,
    /// Events recorded in it: their number.
    events: BTreeMap<u64, usize>,
    /// By stream, how much of each other stream is known to be before its next operation.
    clocks: Vec<Vec<usize>>,
    /// By event, the clock of its stream when it was recorded.
    stamps: Vec<Vec<usize>>,
}

static CAPTURE: Mutex<Option<Capture>> = Mutex::new(None);
static GRAPHS: Mutex<BTreeMap<u64, Graph>> = Mutex::new(BTreeMap::new());
static EXECS: Mutex<BTreeMap<u64, (Graph, Vec<u64>)>> = Mutex::new(BTreeMap::new());

fn capture() -> MutexGuard<'static, Option<Capture>> {
    CAPTURE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn store<T>(place: &Mutex<BTreeMap<u64, T>>, value: T) -> *mut c_void {
    let mut all = place.lock().unwrap_or_else(PoisonError::into_inner);
    let handle = all.keys().next_back().map_or(0x5000, |last| last + 8);
    all.insert(handle, value);
    handle as *mut c_void
}

fn remove<T>(place: &Mutex<BTreeMap<u64, T>>, handle: *mut c_void) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).remove(&(handle as u64))
}

impl Capture {
    fn of(&self, stream: *mut c_void) -> Option<usize> {
        self.streams.iter().position(|&handle| handle == stream as u64)
    }

    fn join(&mut self, stream: *mut c_void) -> usize {
        self.of(stream).unwrap_or_else(|| {
            self.streams.push(stream as u64);
            self.clocks.push(Vec::new());
            self.graph.streams = self.streams.len();
            self.streams.len() - 1
        })
    }

    fn push(&mut self, stream: usize, node: Node) {
        let clock = &mut self.clocks[stream];
        clock.resize(clock.len().max(stream + 1), 0);
        clock[stream] += 1;
        self.graph.nodes.push((stream, node));
    }
}

/// Whether a stream is being captured.
pub fn captures(stream: *mut c_void) -> bool {
    capture().as_ref().is_some_and(|capture| capture.of(stream).is_some())
}

/// Whether an event belongs to a capture, and so cannot be looked at by the host.
pub fn holds(event: *mut c_void) -> bool {
    capture().as_ref().is_some_and(|capture| capture.events.contains_key(&(event as u64)))
}

/// Takes work for a stream that is being captured; gives it back otherwise.
pub fn take(stream: *mut c_void, work: Work) -> Result<(), Work> {
    let mut capture = capture();
    match capture.as_mut().and_then(|capture| Some((capture.of(stream)?, capture))) {
        Some((stream, capture)) => {
            capture.push(stream, Node::Work(work));
            Ok(())
        }
        None => Err(work),
    }
}

/// Records an event; none where the stream is not being captured.
pub fn record(event: *mut c_void, stream: *mut c_void) -> Option<Status> {
    let mut capture = capture();
    let capture = capture.as_mut()?;
    let stream = capture.of(stream)?;
    let number = capture.graph.events;
    capture.graph.events += 1;
    capture.push(stream, Node::Record(number));
    capture.stamps.push(capture.clocks[stream].clone());
    capture.events.insert(event as u64, number);
    Some(SUCCESS)
}

/// Records an event that is known outside.
pub fn record_outside(event: Arc<Event>, stream: *mut c_void) -> Status {
    let mut capture = capture();
    match capture.as_mut().and_then(|capture| Some((capture.of(stream)?, capture))) {
        Some((stream, capture)) => {
            capture.push(stream, Node::Outside(event));
            SUCCESS
        }
        None => INVALID_VALUE,
    }
}

/// Waits for an event; none where neither belongs to a capture.
pub fn wait(stream: *mut c_void, event: *mut c_void) -> Option<Status> {
    let mut capture = capture();
    let capture = capture.as_mut()?;
    let Some(&number) = capture.events.get(&(event as u64)) else {
        return capture.of(stream).map(|_| CAPTURE_ISOLATION);
    };
    let stream = capture.join(stream);
    let stamp = capture.stamps[number].clone();
    let clock = &mut capture.clocks[stream];
    clock.resize(clock.len().max(stamp.len()), 0);
    for (known, of_event) in clock.iter_mut().zip(stamp) {
        *known = (*known).max(of_event);
    }
    capture.push(stream, Node::Wait(number));
    Some(SUCCESS)
}

pub fn begin(stream: *mut c_void) -> Status {
    let mut capture = capture();
    if capture.is_some() {
        return CAPTURE_UNSUPPORTED;
    }
    let graph = Graph { streams: 1, ..Graph::default() };
    *capture = Some(Capture {
        graph,
        streams: vec![stream as u64],
        events: BTreeMap::new(),
        clocks: vec![Vec::new()],
        stamps: Vec::new(),
    });
    SUCCESS
}

pub fn end(stream: *mut c_void) -> Result<*mut c_void, Status> {
    let mut all = capture();
    if all.as_ref().is_none_or(|capture| capture.of(stream) != Some(0)) {
        return Err(CAPTURE_UNMATCHED);
    }
    let Some(capture) = all.take() else { return Err(CAPTURE_UNMATCHED) };
    let origin = &capture.clocks[0];
    for (n, clock) in capture.clocks.iter().enumerate() {
        let own = clock.get(n).copied().unwrap_or(0);
        if origin.get(n).copied().unwrap_or(0) < own {
            return Err(CAPTURE_UNJOINED);
        }
    }
    State::get().made("graph");
    Ok(store(&GRAPHS, capture.graph))
}

/// A capture that fails to end is over all the same.
pub fn give_up() {
    *capture() = None;
}

pub fn destroy(graph: *mut c_void) -> Status {
    State::get().freed("graph");
    remove(&GRAPHS, graph).map_or(INVALID_HANDLE, |_| SUCCESS)
}

pub fn instantiate(graph: *mut c_void) -> Result<*mut c_void, Status> {
    let graphs = GRAPHS.lock().unwrap_or_else(PoisonError::into_inner);
    let graph = graphs.get(&(graph as u64)).cloned().ok_or(INVALID_HANDLE)?;
    let streams = (0..graph.streams).map(|_| Stream::create() as u64).collect();
    State::get().made("graph exec");
    Ok(store(&EXECS, (graph, streams)))
}

pub fn destroy_exec(exec: *mut c_void) -> Status {
    State::get().freed("graph exec");
    let Some((_, streams)) = remove(&EXECS, exec) else { return INVALID_HANDLE };
    for stream in streams {
        Stream::destroy(stream as *mut c_void);
    }
    SUCCESS
}

pub fn exists(exec: *mut c_void) -> bool {
    EXECS.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&(exec as u64))
}

/// Everything of the graph between what is in the stream now and what follows.
pub fn launch(exec: *mut c_void, stream: *mut c_void) -> Status {
    let execs = EXECS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((graph, streams)) = execs.get(&(exec as u64)) else { return INVALID_HANDLE };
    let streams: Vec<*mut c_void> = streams.iter().map(|&handle| handle as *mut c_void).collect();
    let fork = Event::untimed();
    let ticket = fork.issue();
    stream::push(stream, Work::Record { event: Arc::clone(&fork), ticket });
    for &inner in &streams {
        stream::push(inner, Work::Wait { event: Arc::clone(&fork), ticket });
    }
    let events: Vec<Arc<Event>> = (0..graph.events).map(|_| Event::untimed()).collect();
    for (at, node) in &graph.nodes {
        let work = match node {
            Node::Work(Work::Copy { to, from, bytes, time, .. }) => {
                let flip = State::get().flip_due();
                Work::Copy { to: *to, from: *from, bytes: *bytes, time: *time, flip }
            }
            Node::Work(work) => work.clone(),
            Node::Record(n) => {
                Work::Record { event: Arc::clone(&events[*n]), ticket: events[*n].issue() }
            }
            Node::Wait(n) => {
                Work::Wait { event: Arc::clone(&events[*n]), ticket: events[*n].last() }
            }
            Node::Outside(event) => {
                Work::Record { event: Arc::clone(event), ticket: event.issue() }
            }
        };
        stream::push(streams[*at], work);
    }
    for &inner in &streams {
        let join = Event::untimed();
        let ticket = join.issue();
        stream::push(inner, Work::Record { event: Arc::clone(&join), ticket });
        stream::push(stream, Work::Wait { event: join, ticket });
    }
    SUCCESS
}
