package link

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"starling/internal/frame"
	"starling/internal/tensor"
)

// Payload is a buffer to send: aligned to 64 bytes, taken from a pool, counted
// by reference. Its maker owns one reference and fills it before the first
// send; from then on nobody may write to it, as any number of connections may
// be sending it. Retain and Release may be called from any goroutine.
type Payload struct {
	data  []byte // the pooled buffer
	size  int    // bytes in use
	class int
	refs  atomic.Int32
	sum   atomic.Uint64 // summed | CRC once computed, else 0
	stale atomic.Bool   // see Withdraw
}

const summed = 1 << 32

// inUse counts the payloads that somebody holds a reference of.
var inUse atomic.Int64

// PayloadsInUse is how many payloads of this process are not released yet: what
// grows without end, or stays when all connections are closed, is a leak.
func PayloadsInUse() int64 { return inUse.Load() }

// maxPayload is the largest payload in bytes; Config.MaxPayload is no larger.
// A length is an int, which has 32 bits on arm.
const maxPayload = 1 << 30

// pools hold released payloads by size class. The garbage collector empties
// them when they stay unused.
var pools [4 * 32]sync.Pool

// classOf gives the pool for size bytes and the size of its buffers. There are
// four classes to an octave from 4 KiB on, so that a fifth of a buffer is
// wasted at worst.
func classOf(size int) (class, capacity int) {
	const least = 12 // log2 of the smallest buffer
	if size <= 1<<least {
		return 0, 1 << least
	}
	octave := bits.Len(uint(size-1)) - 1 // 2^octave < size ≤ 2^(octave+1)
	step := 1 << (octave - 2)
	quarters := (size-1)>>(octave-2) - 3 // 1 to 4 steps above 2^octave
	return 4*(octave-least) + quarters, 1<<octave + quarters*step
}

// NewPayload returns a buffer of size bytes with one reference, for the caller
// to fill and to Release. Its content is undefined. It panics if size is
// negative or beyond 1 GiB. It allocates nothing if one of the size was
// released before.
func NewPayload(size int) *Payload {
	if size < 0 || size > maxPayload {
		panic(fmt.Sprintf("link: payload of %d bytes", size))
	}
	class, capacity := classOf(size)
	p, _ := pools[class].Get().(*Payload)
	if p == nil {
		p = &Payload{data: tensor.Alloc(capacity), class: class}
	}
	p.size = size
	p.sum.Store(0)
	p.stale.Store(false)
	p.refs.Store(1)
	inUse.Add(1)
	return p
}

// Bytes is the buffer, valid while the caller holds a reference.
func (p *Payload) Bytes() []byte { return p.data[:p.size:p.size] }

// Float32s views the buffer as float32 values, without copying; trailing bytes
// that do not fill one are left out.
func (p *Payload) Float32s() []float32 { return tensor.View[float32](p.Bytes()) }

// Retain takes one more reference. The caller must hold one already.
func (p *Payload) Retain() {
	if p.refs.Add(1) <= 1 {
		panic("link: payload retained after its release")
	}
}

// Release gives back one reference; with the last one the buffer returns to
// its pool and may be handed out again. Releasing once too often panics.
func (p *Payload) Release() {
	switch refs := p.refs.Add(-1); {
	case refs == 0:
		inUse.Add(-1)
		pools[p.class].Put(p)
	case refs < 0:
		panic("link: payload released twice")
	}
}

// Withdraw drops the frames with this payload that wait in queues, on whichever
// connection: nobody wants them any more. One that is being written is.
func (p *Payload) Withdraw() { p.stale.Store(true) }

// crc is the CRC of the content, computed on the first call.
func (p *Payload) crc() uint32 {
	sum := p.sum.Load()
	if sum == 0 {
		sum = summed | uint64(frame.CRC(p.Bytes()))
		p.sum.Store(sum)
	}
	return uint32(sum)
}
