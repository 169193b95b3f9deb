package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// userTimeout is how long TCP keeps sending bytes that are not acknowledged
// (RFC 5482): the backstop, in the kernel, where nobody reads or writes.
const userTimeout = time.Second

// ErrPlain refuses to listen to the network without encryption.
var ErrPlain = errors.New("a plain link is for loopback addresses only: set up TLS, or listen on 127.0.0.1")

// Dial connects to a coordinator at addr, "host:port", within ctx's life.
// With cfg.TLS it has checked the peer's certificate when it returns, against
// cfg.TLS.ServerName or else the host.
func Dial(ctx context.Context, addr string, cfg Config) (*Conn, error) {
	cfg = cfg.withDefaults()
	dialer := net.Dialer{KeepAlive: -1} // pings do better
	nc, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	raw, err := tune(nc, cfg)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	if cfg.TLS == nil {
		return newConn(raw, raw, nil, cfg), nil
	}
	if cfg.TLS.ServerName == "" {
		// DialContext has split the address before, so this cannot fail.
		cfg.TLS.ServerName, _, _ = net.SplitHostPort(addr)
	}
	secure := tls.Client(raw, cfg.TLS)
	if err := secure.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("dial %s: TLS handshake: %w", addr, err)
	}
	return newConn(raw, secure, secure, cfg), nil
}

// tune sets the socket's options.
func tune(nc net.Conn, cfg Config) (*timed, error) {
	tcp := nc.(*net.TCPConn)
	if err := tcp.SetNoDelay(true); err != nil {
		return nil, err
	}
	if err := setUserTimeout(tcp, userTimeout); err != nil {
		return nil, err
	}
	return newTimed(tcp, cfg), nil
}

// Listener accepts links.
type Listener struct {
	nl  net.Listener
	cfg Config
}

// Listen listens on addr, "host:port"; port 0 takes a free one, see Addr.
// Without cfg.TLS an address that is not loopback is refused with ErrPlain.
func Listen(addr string, cfg Config) (*Listener, error) {
	cfg = cfg.withDefaults()
	at, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	if cfg.TLS == nil && !at.IP.IsLoopback() {
		return nil, fmt.Errorf("listen on %s: %w", addr, ErrPlain)
	}
	config := net.ListenConfig{KeepAlive: -1}
	nl, err := config.Listen(context.Background(), "tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return NewListener(nl, cfg), nil
}

// NewListener takes over nl, which listens for TCP already: without cfg.TLS the
// caller answers for who can reach it.
func NewListener(nl net.Listener, cfg Config) *Listener { return &Listener{nl, cfg.withDefaults()} }

// Accept waits for the next connection; Close ends the wait with an error that
// wraps net.ErrClosed. It does not wait for the TLS handshake, which a peer
// could draw out: that happens under the first Receive, whose error tells if it
// failed. Nor has the peer said anything yet: the caller bounds the time to its
// first frame.
func (l *Listener) Accept() (*Conn, error) {
	for {
		nc, err := l.nl.Accept()
		if err != nil {
			return nil, fmt.Errorf("accept: %w", err)
		}
		raw, err := tune(nc, l.cfg)
		if err != nil { // it has gone already
			nc.Close()
			continue
		}
		if l.cfg.TLS == nil {
			return newConn(raw, raw, nil, l.cfg), nil
		}
		secure := tls.Server(raw, l.cfg.TLS)
		return newConn(raw, secure, secure, l.cfg), nil
	}
}

// Addr is the address listened on.
func (l *Listener) Addr() net.Addr { return l.nl.Addr() }

// Close stops listening; connections accepted before live on.
func (l *Listener) Close() error { return l.nl.Close() }
