//go:build !linux

package link

import (
	"net"
	"time"
)

// setUserTimeout does nothing here: the deadlines of reads and writes alone
// notice a dead peer.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }
