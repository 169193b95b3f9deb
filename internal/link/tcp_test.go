package link_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"starling/internal/frame"
	"starling/internal/link"
)

// patient is for tests in real time, on machines that may be busy.
var patient = link.Config{ReadDeadline: 20 * time.Second, WriteDeadline: 20 * time.Second}

// echoOver listens, accepts one link that echoes every frame, and dials it.
func echoOver(t testing.TB, server, client link.Config) (*link.Conn, error) {
	t.Helper()
	l, err := link.Listen("127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for {
			h, p, err := c.Receive()
			if err != nil {
				return
			}
			back := link.NewPayload(len(p))
			copy(back.Bytes(), p)
			err = c.Send(context.Background(), h, back)
			back.Release()
			if err != nil {
				return
			}
		}
	})
	c, err := link.Dial(t.Context(), l.Addr().String(), client)
	t.Cleanup(func() {
		if c != nil {
			c.Close()
		}
		l.Close()
		served.Wait()
	})
	return c, err
}

// roundTrip sends a frame and receives its echo.
func roundTrip(t testing.TB, c *link.Conn, p *link.Payload) []byte {
	if !c.TrySend(frame.Header{Type: frame.Result, Request: 5}, p) {
		t.Fatalf("not sent: %v", c.Err())
	}
	h, got, err := c.Receive()
	if err != nil || h.Request != 5 {
		t.Fatalf("got request %d, %v", h.Request, err)
	}
	return got
}

// certificate makes a self-signed certificate for 127.0.0.1 and a pool with it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestOverTCP(t *testing.T) {
	cert, pool := certificate(t)
	secureServer, secureClient := patient, patient
	secureServer.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	secureClient.TLS = &tls.Config{RootCAs: pool}
	for _, c := range []struct {
		name           string
		server, client link.Config
	}{
		{"plain", patient, patient},
		{"TLS", secureServer, secureClient},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := echoOver(t, c.server, c.client)
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range []int{0, 3, 20_000, 3 << 20} {
				p := payload(size)
				if got := roundTrip(t, conn, p); string(got) != string(p.Bytes()) {
					t.Errorf("%d bytes came back as %d others", size, len(got))
				}
				p.Release()
			}
			if conn.RemoteAddr().Network() != "tcp" {
				t.Errorf("remote address %v", conn.RemoteAddr())
			}
		})
	}
}

func TestTLSRefuses(t *testing.T) {
	cert, pool := certificate(t)
	for _, c := range []struct {
		name   string
		client *tls.Config
	}{
		{"unknown certificate", &tls.Config{RootCAs: x509.NewCertPool()}},
		{"another host's certificate", &tls.Config{RootCAs: pool, ServerName: "coordinator.example"}},
		{"TLS 1.2 at most", &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, client := patient, patient
			server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
			client.TLS = c.client
			if _, err := echoOver(t, server, client); err == nil {
				t.Error("the link came up")
			}
		})
	}
	t.Run("TLS 1.2 from elsewhere", func(t *testing.T) {
		server := patient
		server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10}
		l, err := link.Listen("127.0.0.1:0", server)
		if err != nil {
			t.Fatal(err)
		}
		var served sync.WaitGroup
		served.Go(func() {
			if c, err := l.Accept(); err == nil {
				c.Receive()
				c.Close()
			}
		})
		old, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12})
		if err == nil {
			old.Close()
			t.Error("the handshake succeeded")
		}
		l.Close()
		served.Wait()
	})
	t.Run("plain client", func(t *testing.T) {
		server := patient
		server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		conn, err := echoOver(t, server, patient)
		if err != nil {
			t.Fatal(err)
		}
		conn.TrySend(frame.Header{Type: frame.Hello}, nil)
		if h, _, err := conn.Receive(); err == nil {
			t.Errorf("received %+v", h)
		}
	})
}

func TestListenRefusesPlainOutside(t *testing.T) {
	for _, c := range []struct {
		name, addr string
		refused    bool
	}{
		{"every address", ":0", true},
		{"every IPv4 address", "0.0.0.0:0", true},
		{"every IPv6 address", "[::]:0", true},
		{"an address of the network", "192.0.2.1:7070", true},
		{"loopback", "127.0.0.1:0", false},
		{"another loopback", "127.0.0.2:0", false},
		{"localhost", "localhost:0", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := link.Listen(c.addr, link.Config{})
			if errors.Is(err, link.ErrPlain) != c.refused {
				t.Errorf("got %v, want refused %v", err, c.refused)
			}
			if err == nil {
				l.Close()
			}
		})
	}
}

func TestDialFails(t *testing.T) {
	l, err := link.Listen("127.0.0.1:0", link.Config{})
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v, want net.ErrClosed", err)
	}
	if _, err := link.Dial(t.Context(), addr, link.Config{}); err == nil {
		t.Error("dialled a port where nobody listens")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := link.Dial(ctx, addr, link.Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial with a cancelled context: %v", err)
	}
}

// prefixEcho is the yardstick: TCP with a length before each message, no sums,
// no queue, no heartbeats; a buffered reader, one vectored write per message.
func prefixEcho(b *testing.B, size int) {
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		nc, err := nl.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		in, p := bufio.NewReaderSize(nc, 16<<10), make([]byte, size)
		for prefixRead(in, p) == nil && prefixWrite(nc, p) == nil {
		}
	})
	nc, err := net.Dial("tcp", nl.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	in, p := bufio.NewReaderSize(nc, 16<<10), make([]byte, size)
	for b.Loop() {
		if err := prefixWrite(nc, p); err != nil {
			b.Fatal(err)
		}
		if err := prefixRead(in, p); err != nil {
			b.Fatal(err)
		}
	}
	nc.Close()
	nl.Close()
	served.Wait()
}

func prefixRead(in *bufio.Reader, p []byte) error {
	head, err := in.Peek(4)
	if err != nil {
		return err
	}
	if n := binary.LittleEndian.Uint32(head); int(n) != len(p) {
		return fmt.Errorf("%d bytes announced, want %d", n, len(p))
	}
	in.Discard(4)
	_, err = io.ReadFull(in, p)
	return err
}

func prefixWrite(nc net.Conn, p []byte) error {
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(p)))
	bufs := net.Buffers{head, p}
	_, err := bufs.WriteTo(nc)
	return err
}

// BenchmarkRoundTrip: one echo outstanding over loopback TCP, by the link and by
// its yardstick.
func BenchmarkRoundTrip(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB/link", size>>10), func(b *testing.B) {
			c, err := echoOver(b, patient, patient)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(2 * size))
			for b.Loop() {
				p := link.NewPayload(size) // a new one each time: its sum is part of the cost
				roundTrip(b, c, p)
				p.Release()
			}
		})
		b.Run(fmt.Sprintf("%dKiB/prefix", size>>10), func(b *testing.B) {
			b.SetBytes(int64(2 * size))
			prefixEcho(b, size)
		})
	}
}

// A stranger who connects and says nothing costs a TLS listener one
// connection for ReadDeadline, and does not hold up Accept.
func TestSilentStranger(t *testing.T) {
	cert, _ := certificate(t)
	l, err := link.Listen("127.0.0.1:0", link.Config{
		ReadDeadline: 20 * time.Millisecond,
		TLS:          &tls.Config{Certificates: []tls.Certificate{cert}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 2 {
		stranger, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer stranger.Close()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, _, err := c.Receive(); !errors.Is(err, link.ErrSilent) {
			t.Errorf("got %v, want ErrSilent", err)
		}
	}
}
