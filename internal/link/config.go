package link

import (
	"crypto/tls"
	"time"

	"starling/internal/frame"
)

// Config sets a connection's limits; a zero field means its default. Both ends
// may differ, as long as one's Heartbeat is well below half the other's
// ReadDeadline.
type Config struct {
	// Heartbeat: after this long without sending, a Ping is sent. Shorter costs
	// packets (40 bytes each), longer forces a longer ReadDeadline. Default 100 ms.
	Heartbeat time.Duration
	// ReadDeadline: the peer is given up when no byte came for this long.
	// Shorter takes a hiccup of scheduler or radio for a death, longer leaves a
	// dead worker in the flock. Default 400 ms: three pings may be lost.
	ReadDeadline time.Duration
	// WriteDeadline: the peer is given up when it took no byte for this long
	// while some were waiting. It is looked at once per WriteDeadline, so it
	// takes up to twice as long. Default 400 ms.
	WriteDeadline time.Duration
	// Queue: frames accepted and not yet written. More lets a slow worker fall
	// further behind before TrySend refuses and it counts as an erasure; each
	// may hold one payload in memory. Frames without a payload have twice as
	// many places of their own: a Cancel gets through where a Compute does not,
	// else a worker would compute what nobody wants just when it is behind.
	// Default 16.
	Queue int
	// MaxPayload: the largest tensor or chunk in bytes, either way; at most
	// 1 GiB. It bounds what a peer can make this end hold. Default
	// frame.DefaultMaxPayload, 256 MiB.
	MaxPayload uint32
	// TLS encrypts the link, TLS 1.3 at least; nil means plain TCP, and then
	// Listen accepts only loopback addresses. Costs CPU on devices without AES
	// instructions.
	TLS *tls.Config
}

func (c Config) withDefaults() Config {
	if c.Heartbeat <= 0 {
		c.Heartbeat = 100 * time.Millisecond
	}
	if c.ReadDeadline <= 0 {
		c.ReadDeadline = 400 * time.Millisecond
	}
	if c.WriteDeadline <= 0 {
		c.WriteDeadline = 400 * time.Millisecond
	}
	if c.Queue <= 0 {
		c.Queue = 16
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = frame.DefaultMaxPayload
	}
	c.MaxPayload = min(c.MaxPayload, maxPayload)
	if c.TLS != nil {
		c.TLS = c.TLS.Clone()
		c.TLS.MinVersion = max(c.TLS.MinVersion, tls.VersionTLS13)
	}
	return c
}
