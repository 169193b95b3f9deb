package serve

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"starling/internal/serve/oippb"
)

// gRPC is a form of HTTP/2 (https://github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md), so
// net/http does here what it does for REST, and bounds it alike. The module
// google.golang.org/grpc, of which each process would have 1.7 MB resident, is only
// tested with.

// code is a status in gRPC's numbers.
type code int

const (
	canceled          code = 1
	invalidArgument   code = 3
	deadlineExceeded  code = 4
	notFound          code = 5
	resourceExhausted code = 8
	unimplemented     code = 12
	internal          code = 13
	unavailable       code = 14
)

// codes are gRPC's words for what explain says; all else is internal.
var codes = map[int]code{
	http.StatusBadRequest:            invalidArgument,
	http.StatusNotFound:              notFound,
	http.StatusRequestTimeout:        deadlineExceeded,
	http.StatusGatewayTimeout:        deadlineExceeded,
	http.StatusRequestEntityTooLarge: resourceExhausted,
	http.StatusUnsupportedMediaType:  unimplemented,
	http.StatusNotImplemented:        unimplemented,
	http.StatusServiceUnavailable:    unavailable,
	statusGone:                       canceled,
}

// codeOf is the code for an error, and for one that may pass when to come again.
func codeOf(err error) (code, time.Duration) {
	status, retry := explain(err)
	if retry > 0 {
		return resourceExhausted, retry
	}
	if c, ok := codes[status]; ok {
		return c, 0
	}
	return internal, 0
}

const (
	prefix = 5        // bytes before a message: a flag for compression, its length
	maxAsk = 16 << 10 // bytes of a message that only asks about the server or a model
)

// method answers a call.
type method func(c *call) error

// call is a call of a method, one message and an answer.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
}

// GRPCHandler answers gRPC's requests, which come over HTTP/2.
func (s *Server) GRPCHandler() http.Handler {
	methods := map[string]method{
		"ServerLive": ask(func(*oippb.ServerLiveRequest) (proto.Message, error) {
			return &oippb.ServerLiveResponse{Live: true}, nil
		}),
		"ServerReady": ask(func(*oippb.ServerReadyRequest) (proto.Message, error) {
			return &oippb.ServerReadyResponse{Ready: s.ready()}, nil
		}),
		"ServerMetadata": ask(func(*oippb.ServerMetadataRequest) (proto.Message, error) {
			return &oippb.ServerMetadataResponse{Name: serverName, Version: s.cfg.Version}, nil
		}),
		"ModelReady": ask(func(q *oippb.ModelReadyRequest) (proto.Message, error) {
			m, err := s.model(q.Name, q.Version)
			if err != nil {
				return nil, err
			}
			return &oippb.ModelReadyResponse{Ready: m.Flock.Ready()}, nil
		}),
		"ModelMetadata": ask(func(q *oippb.ModelMetadataRequest) (proto.Message, error) {
			m, err := s.model(q.Name, q.Version)
			if err != nil {
				return nil, err
			}
			return m.describe(), nil
		}),
		"ModelInfer": s.inferMessage,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.ProtoMajor != 2 || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			http.Error(w, "this address is for gRPC", http.StatusUnsupportedMediaType)
			return
		}
		name, _ := strings.CutPrefix(r.URL.Path, "/inference.GRPCInferenceService/")
		answer := methods[name]
		if answer == nil {
			answer = func(*call) error {
				return &refusal{http.StatusNotImplemented, fmt.Sprintf("there is no method %.200q", r.URL.Path)}
			}
		}
		s.serveCall(w, r, answer)
	})
}

// serveCall has a call answered and says how it ended.
func (s *Server) serveCall(w http.ResponseWriter, r *http.Request, answer method) {
	c := &call{w, r, http.NewResponseController(w)}
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h["Trailer"] = []string{"Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin"}
	err := c.within(answer)
	if err == nil {
		h.Set("Grpc-Status", "0")
		return
	}
	status, retry := codeOf(err)
	if status == internal {
		s.cfg.Log.Error("request failed", "cause", err)
	}
	// The answer's head goes before its status, also where there is no message.
	if c.control.SetWriteDeadline(time.Now().Add(bodyTime)) != nil || c.control.Flush() != nil {
		return // nobody is there to be told
	}
	h.Set("Grpc-Status", strconv.Itoa(int(status)))
	h.Set("Grpc-Message", percent(err.Error()))
	if retry > 0 {
		h.Set("Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(retryDetails(status, err.Error(), retry)))
	}
}

// within answers within the time that the client gives.
func (c *call) within(answer method) error {
	if timeout := c.r.Header.Get("Grpc-Timeout"); timeout != "" {
		d, err := parseTimeout(timeout)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.r.Context(), d)
		defer cancel()
		c.r = c.r.WithContext(ctx)
	}
	return answer(c)
}

var units = map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond}

// parseTimeout reads at most eight digits and a unit.
func parseTimeout(s string) (time.Duration, error) {
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	unit := units[s[len(s)-1]]
	if err != nil || unit == 0 || len(s) > 9 {
		return 0, bad("grpc-timeout %.20q is no time", s)
	}
	if unit == time.Hour {
		n = min(n, 1e6) // a Duration has not many more
	}
	return time.Duration(n) * unit, nil
}

// receive has the call's message, of most bytes at most, read.
func (c *call) receive(most int, read func(message []byte) error) (err error) {
	b := takeBuffer()
	defer buffers.Put(b)
	if err := c.read(b, prefix); err != nil {
		return err
	}
	compressed, length := (*b)[0], binary.BigEndian.Uint32((*b)[1:])
	switch {
	case compressed != 0:
		return &refusal{http.StatusUnsupportedMediaType, "compressed messages are not supported: send them as they are"}
	case uint64(length) > uint64(most):
		return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("a message of %d bytes, larger than any needs: %d", length, most)}
	}
	if err := c.read(b, int(length)); err != nil {
		return err
	}
	// Computing has the time that the client gives it.
	if err := c.control.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	return read(*b)
}

// read reads n bytes into b.
func (c *call) read(b *[]byte, n int) (err error) {
	*b, err = readAll((*b)[:0], c.r.Body, n)
	switch ended := c.r.Context().Err(); {
	case err == nil && len(*b) == n:
		return nil
	case ended != nil:
		return ended
	case err == nil:
		err = io.ErrUnexpectedEOF
	}
	return unread(err, "its message")
}

// send sends the answer.
func (c *call) send(m proto.Message) error {
	b := takeBuffer()
	defer buffers.Put(b)
	var err error
	if *b, err = (proto.MarshalOptions{}).MarshalAppend(append(*b, make([]byte, prefix)...), m); err != nil {
		return err
	}
	binary.BigEndian.PutUint32((*b)[1:], uint32(len(*b)-prefix))
	if err := c.control.SetWriteDeadline(time.Now().Add(bodyTime)); err != nil {
		return err
	}
	_, _ = c.w.Write(*b) // who has hung up need not be told
	return nil
}

// ask is a method about the server or a model.
func ask[Q any, P interface {
	*Q
	proto.Message
}](answer func(P) (proto.Message, error),
) method {
	return func(c *call) error {
		q := P(new(Q))
		err := c.receive(maxAsk, func(message []byte) error {
			if err := proto.Unmarshal(message, q); err != nil {
				return bad("%v", err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		a, err := answer(q)
		if err != nil {
			return err
		}
		return c.send(a)
	}
}

// describe is the model's metadata.
func (m *model) describe() *oippb.ModelMetadataResponse {
	tensors := func(all []tensorMetadata) (described []*oippb.ModelMetadataResponse_TensorMetadata) {
		for _, t := range all {
			described = append(described, &oippb.ModelMetadataResponse_TensorMetadata{Name: t.Name, Datatype: t.Datatype, Shape: wide[int64](t.Shape)})
		}
		return described
	}
	return &oippb.ModelMetadataResponse{
		Name: m.Name, Versions: []string{modelVersion}, Platform: platform,
		Inputs: tensors(metadata(m.Inputs)), Outputs: tensors(metadata(m.Outputs)),
	}
}

// inferMessage is ModelInfer.
func (s *Server) inferMessage(c *call) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	var q *request
	err := c.receive(s.message, func(message []byte) (err error) {
		q, err = s.readMessage(message)
		return err
	})
	if err != nil {
		return err
	}
	defer q.model.give(q)
	if err := q.infer(c.r.Context()); err != nil {
		return err
	}
	if decoded := q.decoded(); decoded != "" {
		c.w.Header().Set(headerDecoded, decoded)
	}
	return c.send(q.message())
}

// percent is s as the header grpc-message has it.
func percent(s string) string {
	var b strings.Builder
	for _, v := range []byte(s) {
		if v < ' ' || v > '~' || v == '%' {
			fmt.Fprintf(&b, "%%%02X", v)
		} else {
			b.WriteByte(v)
		}
	}
	return b.String()
}

// retryDetails is a google.rpc.Status that has a google.rpc.RetryInfo among its
// details (googleapis, google/rpc/status.proto and error_details.proto).
func retryDetails(status code, text string, retry time.Duration) []byte {
	number := func(b []byte, field protowire.Number, v int64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
	}
	nested := func(b []byte, field protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
	}
	delay := number(number(nil, 1, int64(retry/time.Second)), 2, int64(retry%time.Second))
	info := nested(nested(nil, 1, []byte("type.googleapis.com/google.rpc.RetryInfo")), 2, nested(nil, 1, delay))
	return nested(nested(number(nil, 1, int64(status)), 2, []byte(text)), 3, info)
}
