package link

import (
	"errors"
	"io"

	"starling/internal/frame"
	"starling/internal/tensor"
)

// Receive waits for the next frame that is no Ping and returns its header and
// payload. The payload is the connection's: valid, and writable, until the next
// Receive; it begins at a multiple of 64 bytes, so tensor.View may be used.
// One goroutine at a time may call it, and must do so all the time: a
// connection that nobody reads is given up by the peer, for WriteDeadline.
//
// On a *CorruptError only this frame is lost and the next may be received;
// any other error is Err, and final.
func (c *Conn) Receive() (frame.Header, []byte, error) {
	for {
		if err := c.Err(); err != nil {
			return frame.Header{}, nil, err
		}
		h, err := c.receiveHeader()
		if err != nil {
			c.end(err)
			return frame.Header{}, nil, c.Err()
		}
		p, crc, err := c.receivePayload(int(h.Length))
		if err != nil {
			if errors.Is(err, io.EOF) {
				markTorn.Pass()
				err = io.ErrUnexpectedEOF
			}
			c.end(err)
			return frame.Header{}, nil, c.Err()
		}
		c.stats.framesIn.Add(1)
		c.stats.bytesIn.Add(uint64(frame.HeaderSize + len(p)))
		if crc != h.PayloadCRC {
			markDamaged.Pass()
			c.stats.corrupt.Add(1)
			return frame.Header{}, nil, &CorruptError{h, crc}
		}
		if h.Type != frame.Ping {
			return h, p, nil
		}
	}
}

func (c *Conn) receiveHeader() (frame.Header, error) {
	if _, err := io.ReadFull(c.in, c.head[:]); err != nil {
		return frame.Header{}, err
	}
	h, err := frame.Parse(&c.head, c.limit)
	if err != nil {
		markNoFrame.Pass()
	}
	return h, err
}

// LimitPayload sets the largest tensor or chunk in bytes that the peer may send
// from now on, Config.MaxPayload at most. It is called by whoever calls Receive.
func (c *Conn) LimitPayload(size uint32) { c.limit = min(size, c.cfg.MaxPayload) }

// receivePayload reads size bytes into the receive buffer, which grows only as
// they arrive: to twice what is there, so that a peer must send half of what it
// makes this end hold. The sum is taken while the bytes are in the cache.
func (c *Conn) receivePayload(size int) (p []byte, crc uint32, err error) {
	have := 0
	for have < size {
		if have == len(c.rbuf) {
			grown := tensor.Alloc(min(max(2*have, firstBuffer), c.ceiling()))
			copy(grown, c.rbuf)
			c.rbuf = grown
		}
		n, err := c.in.Read(c.rbuf[have:min(size, len(c.rbuf))])
		crc = frame.UpdateCRC(crc, c.rbuf[have:have+n])
		have += n
		if err != nil && have < size {
			return nil, 0, err
		}
	}
	return c.rbuf[:size:size], crc, nil
}

// ceiling is the largest receive buffer that any frame can need, in bytes.
func (c *Conn) ceiling() int { return int(max(c.cfg.MaxPayload, frame.MaxControl)) }
