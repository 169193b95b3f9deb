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
}

// Read waits for the next bytes, at most for t.read, else fails with ErrSilent.
// It does so in two halves, the second from when the first is seen to be over: a
// deadline may pass while bytes are waiting if this process itself is held up, as
// by SIGSTOP, a suspended machine or a busy one. Then a half remains, in which a
// peer that lives is heard, as its heartbeat is far shorter.
func (t *timed) Read(b []byte) (int, error) {
	for range 2 {
		if err := t.Conn.SetReadDeadline(time.Now().Add(t.read / 2)); err != nil {
			return 0, err
		}
		if n, err := t.Conn.Read(b); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
	markSilent.Pass()
	return 0, fmt.Errorf("%w for %v", ErrSilent, t.read)
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
