//go:build !linux

package experiment

import (
	"errors"
	"net"
)

func hurry(int) error { return nil }

func listenIn(string, string) (net.Listener, error) {
	return nil, errors.New("the lab needs Linux: it is made of network namespaces")
}
