package link

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Why a connection ended, besides io.EOF and what the network says.
var (
	ErrSilent  = errors.New("peer silent")            // no byte came for ReadDeadline
	ErrStalled = errors.New("peer takes no bytes")    // none was taken for WriteDeadline
	ErrClosed  = errors.New("link closed on our own") // Close was called
)

// timed is a net.Conn whose every Read and Write has a deadline that moves on
// with each byte. It lies under TLS, whose own state no deadline may break.
type timed struct {
	net.Conn
	read, write time.Duration
	late        time.Duration // see Read
}

// Read waits for the next bytes, at most for t.read, else fails with ErrSilent.
// If this process itself was held up, as by SIGSTOP or a suspended machine, the
// deadline may have passed while bytes were waiting: seeing the timeout more
// than t.late after the deadline earns the peer one more try.
func (t *timed) Read(b []byte) (int, error) {
	for {
		deadline := time.Now().Add(t.read)
		if err := t.Conn.SetReadDeadline(deadline); err != nil {
			return 0, err
		}
		n, err := t.Conn.Read(b)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if time.Since(deadline) <= t.late {
			markSilent.Pass()
			return 0, fmt.Errorf("%w for %v", ErrSilent, t.read)
		}
	}
}

// Write writes all of b, waiting at most t.write for each bit of progress, else
// it fails with ErrStalled.
func (t *timed) Write(b []byte) (int, error) {
	total := 0
	for {
		n, err := t.writeSome(func() (int64, error) { n, err := t.Conn.Write(b[total:]); return int64(n), err })
		total += int(n)
		if err != nil || total == len(b) {
			return total, err
		}
	}
}

// writeBuffers writes and consumes all of bufs, in one vectored write where
// the connection can, waiting as Write does.
func (t *timed) writeBuffers(bufs *net.Buffers) error {
	for len(*bufs) > 0 {
		if _, err := t.writeSome(func() (int64, error) { return bufs.WriteTo(t.Conn) }); err != nil {
			return err
		}
	}
	return nil
}

// writeSome runs write under a fresh deadline. Running into it after some
// bytes is no error: the peer lives.
func (t *timed) writeSome(write func() (int64, error)) (int64, error) {
	if err := t.Conn.SetWriteDeadline(time.Now().Add(t.write)); err != nil {
		return 0, err
	}
	n, err := write()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if n > 0 {
			return n, nil
		}
		err = fmt.Errorf("%w for %v", ErrStalled, t.write)
	}
	return n, err
}
