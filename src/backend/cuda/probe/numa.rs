//! Turns the machine's NUMA nodes into what copies reach from the memory of each.
//!
//! Page-locked memory lies where the thread runs that asks for it: the operating system takes pages from that thread's
//! node. So the thread is held to one node's processors while the memory is allocated and touched, and let go again.

use super::super::memory::PinnedMemory;
use super::super::stream::Stream;
use super::bench::Bench;
use super::{Sample, rate};
use crate::error::{Error, Result};
use crate::units::Rate;

/// A NUMA node of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub number: u32,
    /// Its processors.
    pub processors: Vec<usize>,
}

/// What copies to the device reach from a node's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRate {
    /// The node's number.
    pub node: u32,
    /// The rate of large copies.
    pub h2d: Rate,
}

/// Bytes of one copy at most.
const LARGEST: u64 = 256 << 20;

impl Bench<'_> {
    /// Copies from each node's memory in turn; nothing on machines with one node.
    pub fn nodes(&self, nodes: &[Node]) -> Result<Vec<NodeRate>> {
        if nodes.len() < 2 {
            return Ok(Vec::new());
        }
        nodes.iter().map(|node| self.node(node)).collect()
    }

    #[expect(unsafe_code, reason = "copies between buffers that are waited for before they go")]
    fn node(&self, node: &Node) -> Result<NodeRate> {
        let bytes = self.largest().min(LARGEST);
        let host = on(node, || {
            let mut host = PinnedMemory::new(self.gpu, bytes, false, false)?;
            // The driver has filled the pages; writing them settles it also where it has not.
            host.bytes_mut().fill(1);
            Ok(host)
        })?;
        let length = usize::try_from(bytes).unwrap_or(0);
        let one = |stream: &Stream| {
            // SAFETY: both ends hold so many bytes; `measure` waits for the stream.
            unsafe { stream.to_device(self.target(), host.address(), length)? };
            Ok(())
        };
        let Sample { time, .. } = self.measure(self.batch(bytes), &one)?;
        Ok(NodeRate { node: node.number, h2d: rate(bytes, time) })
    }
}

/// Runs something while this thread is held to a node's processors.
#[cfg(target_os = "linux")]
fn on<T>(node: &Node, work: impl FnOnce() -> Result<T>) -> Result<T> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let failed = |error: rustix::io::Errno| {
        let number = node.number;
        Error::Run(format!("this thread cannot run on NUMA node {number}: {error}"))
    };
    let before = sched_getaffinity(None).map_err(failed)?;
    let mut there = CpuSet::new();
    for &processor in node.processors.iter().filter(|&&n| n < CpuSet::MAX_CPU) {
        there.set(processor);
    }
    sched_setaffinity(None, &there).map_err(failed)?;
    let done = work();
    sched_setaffinity(None, &before).map_err(failed)?;
    done
}

/// Elsewhere memory is where the system puts it.
#[cfg(not(target_os = "linux"))]
fn on<T>(_: &Node, work: impl FnOnce() -> Result<T>) -> Result<T> {
    work()
}
