//! A hint to the allocator, for programs that seal and open many chunks.

/// The size of the buffer that sets the threshold: larger than any buffer of the pipeline.
const THRESHOLD_BYTES: usize = 8 << 20;

/// Makes glibc keep freed buffers in the process. Call it once, when a put or a get begins.
///
/// Each chunk of a get or a put takes a few buffers of 1 MiB. By default glibc returns such memory to the system at once,
/// and the page faults of each new buffer took a quarter of the processor time of a get (256 MiB of incompressible data
/// on x86-64: 0.69 s without this call, 0.51 with it; `GLIBC_TUNABLES=glibc.malloc.mmap_threshold=131072` is the same as
/// without it). glibc raises its threshold to the size of the largest freed buffer (`mallopt(3)`, `M_MMAP_THRESHOLD`),
/// so this function allocates and frees one that is larger than the others. The buffer is never written to and takes no
/// memory. With other allocators the call has no effect.
pub fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(THRESHOLD_BYTES)));
}
