//! Turns what is issued to streams into a graph, which the device is given as one.

#![expect(unsafe_code, reason = "calls the driver; every call's demands stand beside it")]

use std::rc::Rc;

use cudarc::driver::sys::{CUgraph, CUgraphExec, CUstream};

use super::driver::{Failure, graph::Table};
use super::gpu::{Gpu, Outcome};
use super::stream::{Event, Stream};
use crate::error::{Error, Result};

/// Streams that are being captured: nothing runs, what is issued becomes nodes.
///
/// A stream joins by waiting for an event of the capture; all must be waited for by the first before the end.
pub(super) struct Capture {
    gpu: Rc<Gpu>,
    table: &'static Table,
    origin: CUstream,
    ended: bool,
}

/// The functions for graphs, or an error that says what is missing.
pub(super) fn table(gpu: &Gpu) -> Result<&'static Table> {
    let missing = |missing: &str| Error::Backend { what: "--graph", message: missing.to_owned() };
    gpu.driver.graph().map_err(missing)
}

impl Capture {
    /// Begins with this stream.
    pub fn begin(gpu: &Rc<Gpu>, origin: &Stream) -> Result<Self> {
        // Calls of other threads are none of the capture's business.
        const THREAD_LOCAL: u32 = 1;
        let table = table(gpu)?;
        // SAFETY: the stream lives, and what is captured from it is ended or given up when this is dropped.
        let status = unsafe { (table.begin)(origin.handle(), THREAD_LOCAL) };
        gpu.driver.check("cuStreamBeginCapture", status)?;
        Ok(Self { gpu: Rc::clone(gpu), table, origin: origin.handle(), ended: false })
    }

    /// Ends it: the graph is made ready to be launched.
    pub fn end(mut self) -> Result<Graph> {
        let driver = self.gpu.driver;
        let graph = self.finish()?;
        let mut exec: CUgraphExec = std::ptr::null_mut();
        // SAFETY: a place for one handle, and the graph that was just captured.
        let status = unsafe { (self.table.instantiate)(&raw mut exec, graph, 0) };
        let made = driver.check("cuGraphInstantiateWithFlags", status);
        // SAFETY: captured above and destroyed once; what was made of it does not need it.
        unsafe { (self.table.destroy)(graph) };
        made?;
        Ok(Graph { gpu: self.gpu.born(), table: self.table, exec })
    }

    fn finish(&mut self) -> Outcome<CUgraph> {
        self.ended = true;
        let mut graph: CUgraph = std::ptr::null_mut();
        // SAFETY: the stream lives, and a place for one handle.
        let status = unsafe { (self.table.end)(self.origin, &raw mut graph) };
        self.gpu.driver.check("cuStreamEndCapture", status).map(|()| graph)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if !self.ended
            && let Ok(graph) = self.finish()
        {
            // SAFETY: captured by `finish`, destroyed once.
            unsafe { (self.table.destroy)(graph) };
        }
    }
}

/// Captured work, ready to be launched any number of times.
pub(super) struct Graph {
    gpu: Rc<Gpu>,
    table: &'static Table,
    exec: CUgraphExec,
}

impl Graph {
    /// Brings it to the device, so that its first launch costs no more than the others.
    pub fn upload(&self, stream: &Stream) -> Outcome<()> {
        // SAFETY: graph and stream live.
        let status = unsafe { (self.table.upload)(self.exec, stream.handle()) };
        self.gpu.driver.check("cuGraphUpload", status)
    }

    /// Puts all of it into a stream.
    ///
    /// # Safety
    ///
    /// What its copies and kernels use must still be there and be used by nothing that the stream does not order.
    pub unsafe fn launch(&self, stream: &Stream) -> Outcome<()> {
        // SAFETY: graph and stream live; the caller's promise.
        let status = unsafe { (self.table.launch)(self.exec, stream.handle()) };
        self.gpu.driver.check("cuGraphLaunch", status)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: instantiated once, destroyed once; its launches were waited for.
        unsafe { (self.table.destroy_exec)(self.exec) };
        self.gpu.died();
    }
}

impl Stream {
    /// Marks this point so that it is known outside the graph that is being captured: its time can be read.
    pub fn record_outside(&self, table: &Table, event: &Event) -> std::result::Result<(), Failure> {
        const EXTERNAL: u32 = 1;
        // SAFETY: stream and event live.
        let status = unsafe { (table.record)(event.handle(), self.handle(), EXTERNAL) };
        self.driver().check("cuEventRecordWithFlags", status)
    }
}
