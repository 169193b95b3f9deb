package link

import (
	"context"
	"time"

	"starling/internal/frame"
)

// TrySend queues a frame of header h and payload p, nil for none, without ever
// waiting; it sets h's Length and PayloadCRC. It is false, and the frame is
// lost, if as many wait already as Config.Queue allows, if the connection has
// ended, or if p is longer than its type may be. The queue takes its own reference to p and
// releases it once the frame is written, withdrawn or dropped: the caller keeps his. Once
// it is true the frame may still be lost with the connection.
func (c *Conn) TrySend(h frame.Header, p *Payload) bool {
	if c.fit(&h, p) != nil {
		return false
	}
	select {
	case c.places(p) <- struct{}{}:
		return c.push(h, p, nil) == nil
	default:
		markFull.Pass()
		return false
	}
}

// Send is TrySend that waits for room in the queue: for shards and control
// frames. Its error is a *frame.TooLongError, ctx's, or Err.
func (c *Conn) Send(ctx context.Context, h frame.Header, p *Payload) error {
	if err := c.fit(&h, p); err != nil {
		return err
	}
	if err := c.place(ctx, p); err != nil {
		return err
	}
	return c.push(h, p, nil)
}

// SendCorrupt is Send of a payload that arrives damaged, for labs.
func (c *Conn) SendCorrupt(ctx context.Context, h frame.Header, p *Payload) error {
	broken := PayloadOf(p.Bytes())
	defer broken.Release()
	broken.sum.Store(summed | uint64(^frame.CRC(p.Bytes())))
	return c.Send(ctx, h, broken)
}

// Mute swallows whatever is sent from now on, pings included, for labs: to the
// peer the link is cut.
func (c *Conn) Mute() { c.muted.Store(true) }

// Flush waits until everything queued before is handed to the operating
// system. Its error is ctx's or Err.
func (c *Conn) Flush(ctx context.Context) error {
	if err := c.place(ctx, nil); err != nil {
		return err
	}
	flushed := make(chan struct{})
	if err := c.push(frame.Header{}, nil, flushed); err != nil {
		return err
	}
	select {
	case <-flushed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return c.Err()
	}
}

// fit sets h.Length to p's size and checks it.
func (c *Conn) fit(h *frame.Header, p *Payload) error {
	h.Length = 0
	if p != nil {
		h.Length = uint32(p.size)
	}
	if limit := h.Type.Limit(c.cfg.MaxPayload); h.Length > limit {
		return &frame.TooLongError{Type: h.Type, Length: h.Length, Limit: limit}
	}
	return nil
}

// places are those in the queue for frames with this payload.
func (c *Conn) places(p *Payload) chan struct{} {
	if p == nil {
		return c.bare
	}
	return c.slots
}

// place waits for room in the queue.
func (c *Conn) place(ctx context.Context, p *Payload) error {
	select {
	case c.places(p) <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return c.Err()
	}
}

// push queues a frame; the caller has a place, which push gives back on error.
func (c *Conn) push(h frame.Header, p *Payload, flushed chan<- struct{}) error {
	h.PayloadCRC = 0
	if p != nil {
		h.PayloadCRC = p.crc()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		<-c.places(p)
		return c.err
	}
	if p != nil {
		p.Retain()
	}
	c.queue <- item{h, p, flushed}
	return nil
}

// write is the connection's goroutine: it writes what is queued, and pings.
func (c *Conn) write() {
	defer close(c.exited)
	defer c.drain()
	last := time.Now() // when something was written
	idle := time.NewTimer(c.cfg.Heartbeat)
	defer idle.Stop()
	for {
		var err error
		select {
		case <-c.done:
			return
		case it := <-c.queue:
			if c.gather(it); len(c.batch) == 0 {
				continue
			}
			err = c.writeBatch()
			c.settle()
		case <-idle.C:
			if quiet := time.Since(last); quiet < c.cfg.Heartbeat {
				idle.Reset(c.cfg.Heartbeat - quiet)
				continue
			}
			idle.Reset(c.cfg.Heartbeat)
			c.batch = append(c.batch[:0], item{head: frame.Header{Type: frame.Ping}})
			err = c.writeBatch()
		}
		if err != nil {
			c.end(err)
			return
		}
		last = time.Now()
	}
}

// gather fills the batch with it and what else is queued, up to coalesceBytes, but
// for what was withdrawn.
func (c *Conn) gather(it item) {
	c.batch = c.batch[:0]
	size := 0
	for {
		if it.payload != nil && it.payload.stale.Load() {
			c.stats.withdrawn.Add(1)
			c.leave(&it)
		} else {
			c.batch = append(c.batch, it)
			size += it.size()
		}
		if size >= coalesceBytes || len(c.batch) == cap(c.batch) {
			return
		}
		select {
		case it = <-c.queue:
		default:
			return
		}
	}
}

// size is the number of bytes on the wire.
func (it *item) size() int {
	switch {
	case it.flushed != nil:
		return 0
	case it.payload == nil:
		return frame.HeaderSize
	default:
		return frame.HeaderSize + it.payload.size
	}
}

// writeBatch writes the frames of the batch.
func (c *Conn) writeBatch() error {
	if c.muted.Load() {
		return nil
	}
	c.vec = c.vec[:0]
	frames, size := 0, 0
	for i := range c.batch {
		it := &c.batch[i]
		if it.flushed != nil {
			continue
		}
		frames++
		size += it.size()
		it.head.Put(&c.heads[i])
		c.vec = append(c.vec, c.heads[i][:])
		if it.payload != nil && it.payload.size > 0 {
			c.vec = append(c.vec, it.payload.Bytes())
		}
	}
	if err := c.writeVec(); err != nil {
		return err
	}
	c.stats.framesOut.Add(uint64(frames))
	c.stats.bytesOut.Add(uint64(size))
	return nil
}

// writeVec writes c.vec: in one vectored write, or over TLS gathered into
// records as large as they may be.
func (c *Conn) writeVec() error {
	if c.tls == nil {
		c.bufs = c.vec
		return c.raw.writeBuffers(&c.bufs)
	}
	for _, b := range c.vec {
		if _, err := c.tls.Write(b); err != nil {
			return err
		}
	}
	return c.tls.Flush()
}

// settle releases the batch's payloads and places and wakes its flushers. After
// a failed write a flusher may be told of success; it loses nothing by that,
// as written frames may be lost too.
func (c *Conn) settle() {
	for i := range c.batch {
		it := &c.batch[i]
		if it.flushed != nil {
			close(it.flushed)
		}
		c.leave(it)
		c.batch[i] = item{}
	}
}

// leave gives back what a queued frame held.
func (c *Conn) leave(it *item) {
	if it.payload != nil {
		it.payload.Release()
	}
	<-c.places(it.payload)
}

// drain drops what is queued; the connection has ended, so nothing is added.
func (c *Conn) drain() {
	for {
		select {
		case it := <-c.queue:
			markAbandoned.Pass()
			c.leave(&it)
		default:
			return
		}
	}
}
