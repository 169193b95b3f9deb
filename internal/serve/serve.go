// Package serve answers requests that come over the network for models that run
// in flocks: the Open Inference Protocol, version 2, as REST and gRPC. It reads requests
// into tensors, has the flock compute them and writes what it gave; what waits,
// what is refused for being too much, and who computes is the flock's business.
//
// What is held for clients is bounded: connections, bytes of a request by what
// its model's inputs can need, and how many are read, computed or written at once
// (Config.Requests). A client that is slow is cut off, one that hangs up or whose
// time is over has its request cancelled down to the workers. What was begun when
// Run is told to end is answered.
package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"starling/internal/coordinator"
	"starling/internal/flock"
	"starling/internal/graph"
)

// Config describes a server.
type Config struct {
	Version string // of the program, for those who ask
	// Requests is how many, of REST and gRPC together, are read, wait, are computed or written at once; more
	// are refused before they are read. Each may take the memory of its model's
	// inputs and outputs and of its text. It should be more than all flocks let in
	// and let wait, which know better when to come again. Default 256.
	Requests int
	// Drain is how long the requests under way may take when the server ends.
	// Default 30 s.
	Drain time.Duration
	Log   *slog.Logger // nil logs nothing
}

const (
	maxConnections = 1024             // of a listener; more wait to be accepted
	headTime       = 10 * time.Second // in which a request's head must have come
	bodyTime       = 30 * time.Second // in which all of it must, and in which an answer must be taken
	idleTime       = 2 * time.Minute  // a connection may be without request
	maxHead        = 16 << 10         // bytes of a request's head
	moreStreams    = 16               // of a connection for gRPC, than there are places
)

// Model is a model that is served.
type Model struct {
	Name    string // in URLs
	Flock   *flock.Flock
	Inputs  []graph.Value // in the order in which the flock takes them
	Outputs []graph.Value // and gives them
}

// Server serves models. Its methods may be called from any goroutine.
type Server struct {
	cfg     Config
	models  map[string]*model
	places  chan struct{} // one taken by each request that is under way
	message int           // bytes at most of one of gRPC
}

// New makes a server of models, which the caller closes when it has ended.
func New(models []Model, cfg Config) (*Server, error) {
	cfg.Requests = cmp.Or(cfg.Requests, 256)
	cfg.Drain = cmp.Or(cfg.Drain, 30*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, models: make(map[string]*model), places: make(chan struct{}, cfg.Requests), message: maxText}
	for _, m := range models {
		if err := CheckName(m.Name); err != nil {
			return nil, err
		}
		if s.models[m.Name] != nil {
			return nil, fmt.Errorf("two models are called %q", m.Name)
		}
		s.models[m.Name] = newModel(m)
		s.message = max(s.message, s.models[m.Name].message)
	}
	return s, nil
}

// CheckName refuses a model's name that cannot be a part of a URL's path.
func CheckName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 200 || strings.Contains(name, "/") || printable(name) != name {
		return fmt.Errorf("%.100q cannot be a model's name in a URL", name)
	}
	return nil
}

// Run serves until ctx ends, then takes no more, answers what is under way and
// returns. It closes the listeners.
func (s *Server) Run(ctx context.Context, rest, rpc net.Listener) error {
	servers := [2]*http.Server{s.server(s.Handler()), s.server(s.GRPCHandler())}
	// A stream of HTTP/2 that runs into this deadline is cancelled, though it only
	// computes: its handler sets one when it writes.
	servers[1].WriteTimeout = 0
	servers[1].Protocols = new(http.Protocols)
	servers[1].Protocols.SetUnencryptedHTTP2(true)
	servers[1].Protocols.SetHTTP1(true) // to say that this is not REST's address
	// One client may have all places, and is told that there are no more.
	servers[1].HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: s.cfg.Requests + moreStreams, SendPingTimeout: idleTime, PingTimeout: bodyTime}
	served := make(chan error, len(servers))
	for i, l := range []net.Listener{rest, rpc} {
		go func() { served <- servers[i].Serve(netutil.LimitListener(l, maxConnections)) }()
	}
	var err error
	running := len(servers)
	select {
	case err = <-served:
		running--
		err = fmt.Errorf("serve %v and %v: %w", rest.Addr(), rpc.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
	defer cancel()
	stopped := make(chan error, len(servers))
	for _, h := range servers {
		go func() {
			err := h.Shutdown(drain)
			if err != nil {
				h.Close()
				err = fmt.Errorf("requests were not answered %v after the end: %w", s.cfg.Drain, err)
			}
			stopped <- err
		}()
	}
	for range servers {
		err = errors.Join(err, <-stopped)
	}
	for range running {
		if end := <-served; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
	}
	return err
}

// server is one of net/http with our bounds.
func (s *Server) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headTime,
		ReadTimeout:       bodyTime,
		WriteTimeout:      bodyTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHead,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug), // what clients do wrong
	}
}

// enter takes a place for a request, which leave gives back.
func (s *Server) enter() error {
	select {
	case s.places <- struct{}{}:
		return nil
	default:
		return &coordinator.BusyError{Waiting: cap(s.places), RetryAfter: time.Second}
	}
}

func (s *Server) leave() { <-s.places }

// ready reports whether all models answer.
func (s *Server) ready() bool {
	for _, m := range s.models {
		if !m.Flock.Ready() {
			return false
		}
	}
	return true
}

// model finds one by its name and version; an empty version is any.
func (s *Server) model(name, version string) (*model, error) {
	m := s.models[name]
	if m == nil {
		return nil, &refusal{http.StatusNotFound, fmt.Sprintf("there is no model %.200q", name)}
	}
	if version != "" && version != modelVersion {
		return nil, &refusal{http.StatusNotFound, fmt.Sprintf("model %q has no version %.20q, only %s", name, version, modelVersion)}
	}
	return m, nil
}
