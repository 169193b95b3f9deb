package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	headers "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"starling/internal/flock"
	"starling/internal/serve/oippb"
	"starling/internal/tensor"
)

const service = "/inference.GRPCInferenceService/"

// dial connects a client until the test ends.
func (r *running) dial(t testing.TB) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(r.rpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// rawDigit asks for digit i by its bytes.
func rawDigit(i int) *oippb.ModelInferRequest {
	return &oippb.ModelInferRequest{
		ModelName:        "digits",
		Inputs:           []*oippb.ModelInferRequest_InferInputTensor{{Name: "input", Datatype: "FP32", Shape: []int64{1, 1, 28, 28}}},
		RawInputContents: [][]byte{digit(i).Data},
	}
}

// typedDigit asks for it by its numbers.
func typedDigit(i int) *oippb.ModelInferRequest {
	q := rawDigit(i)
	q.RawInputContents, q.Inputs[0].Contents = nil, &oippb.InferTensorContents{Fp32Contents: digit(i).F32()}
	return q
}

func infer(ctx context.Context, c *grpc.ClientConn, q *oippb.ModelInferRequest, opts ...grpc.CallOption) (*oippb.ModelInferResponse, error) {
	a := new(oippb.ModelInferResponse)
	return a, c.Invoke(ctx, service+"ModelInfer", q, a, opts...)
}

func TestMessageMetadata(t *testing.T) {
	r := run(t, Config{Version: "v7"}, digitModel(t, flock.Config{}))
	c := r.dial(t)
	for _, test := range []struct {
		method string
		q, a   proto.Message
		want   proto.Message
		code   grpccodes.Code
	}{
		{"ServerLive", &oippb.ServerLiveRequest{}, &oippb.ServerLiveResponse{}, &oippb.ServerLiveResponse{Live: true}, 0},
		{"ServerReady", &oippb.ServerReadyRequest{}, &oippb.ServerReadyResponse{}, &oippb.ServerReadyResponse{Ready: true}, 0},
		{"ServerMetadata", &oippb.ServerMetadataRequest{}, &oippb.ServerMetadataResponse{}, &oippb.ServerMetadataResponse{Name: "starling", Version: "v7"}, 0},
		{"ModelReady", &oippb.ModelReadyRequest{Name: "digits", Version: "1"}, &oippb.ModelReadyResponse{}, &oippb.ModelReadyResponse{Ready: true}, 0},
		{"ModelReady", &oippb.ModelReadyRequest{Name: "dogs"}, &oippb.ModelReadyResponse{}, &oippb.ModelReadyResponse{}, grpccodes.NotFound},
		{"ModelMetadata", &oippb.ModelMetadataRequest{Name: "digits"}, &oippb.ModelMetadataResponse{}, &oippb.ModelMetadataResponse{
			Name: "digits", Versions: []string{"1"}, Platform: "onnx_onnxv1",
			Inputs:  []*oippb.ModelMetadataResponse_TensorMetadata{{Name: "input", Datatype: "FP32", Shape: []int64{1, 1, 28, 28}}},
			Outputs: []*oippb.ModelMetadataResponse_TensorMetadata{{Name: "logits", Datatype: "FP32", Shape: []int64{1, 10}}},
		}, 0},
		{"ModelMetadata", &oippb.ModelMetadataRequest{Name: "digits", Version: "2"}, &oippb.ModelMetadataResponse{}, &oippb.ModelMetadataResponse{}, grpccodes.NotFound},
		{"ModelLoad", &oippb.ServerLiveRequest{}, &oippb.ServerLiveResponse{}, &oippb.ServerLiveResponse{}, grpccodes.Unimplemented},
	} {
		if err := c.Invoke(t.Context(), service+test.method, test.q, test.a); status.Code(err) != test.code || !proto.Equal(test.a, test.want) {
			t.Errorf("%s %v: %v (%v), want %v (%v)", test.method, test.q, test.a, err, test.want, test.code)
		}
	}
}

// TestMessageInfer sends a digit in both forms; the answer comes in the same and has
// the bits of a run without a server.
func TestMessageInfer(t *testing.T) {
	m := digitModel(t, flock.Config{})
	c := run(t, Config{}, m).dial(t)
	want := local(t, m, 3)
	for name, q := range map[string]*oippb.ModelInferRequest{"raw": rawDigit(3), "typed": typedDigit(3)} {
		q.Id = `7ü"`
		q.Parameters = map[string]*oippb.InferParameter{"timeout": {ParameterChoice: &oippb.InferParameter_Int64Param{Int64Param: 20e6}}}
		a, err := infer(t.Context(), c, q)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if a.ModelName != "digits" || a.ModelVersion != "1" || a.Id != q.Id || len(a.Outputs) != 1 || a.Outputs[0].Name != "logits" ||
			a.Outputs[0].Datatype != "FP32" || fmt.Sprint(a.Outputs[0].Shape) != "[1 10]" {
			t.Fatalf("%s: answer %v", name, a)
		}
		got := tensor.Bytes(a.Outputs[0].GetContents().GetFp32Contents())
		if name == "raw" {
			got = a.RawOutputContents[0]
		}
		if !bytes.Equal(got, want.Data) {
			t.Errorf("%s: logits %v, want %v", name, got, want.Data)
		}
	}
}

// TestMessageDatatypes sends two values of each type, and gets them back.
func TestMessageDatatypes(t *testing.T) {
	c := run(t, Config{}, everyType(t)).dial(t)
	typed := map[string]*oippb.InferTensorContents{
		"BOOL": {BoolContents: []bool{false, true}}, "INT8": {IntContents: []int32{-128, 127}}, "INT16": {IntContents: []int32{-32768, 32767}},
		"INT32": {IntContents: []int32{-1 << 31, 1<<31 - 1}}, "INT64": {Int64Contents: []int64{-1 << 63, 1<<63 - 1}},
		"UINT8": {UintContents: []uint32{0, 255}}, "UINT16": {UintContents: []uint32{0, 65535}}, "UINT32": {UintContents: []uint32{0, 1<<32 - 1}},
		"UINT64": {Uint64Contents: []uint64{0, 1<<64 - 1}}, "FP32": {Fp32Contents: []float32{-3.4028235e+38, 0.1}}, "FP64": {Fp64Contents: []float64{5e-324, 0.1}},
	}
	bits := map[string][]byte{"BOOL": {0, 1}} // of every type, by its size
	for _, name := range datatypes {
		if bits[name] == nil {
			bits[name] = []byte("0123456789abcdef")
		}
	}
	q := &oippb.ModelInferRequest{ModelName: "types"}
	for dtype, name := range datatypes {
		q.Inputs = append(q.Inputs, &oippb.ModelInferRequest_InferInputTensor{Name: name, Datatype: name, Shape: []int64{1, 2}})
		q.Outputs = append(q.Outputs, &oippb.ModelInferRequest_InferRequestedOutputTensor{Name: "Y" + name})
		q.RawInputContents = append(q.RawInputContents, bits[name][:2*dtype.Size()])
	}
	a, err := infer(t.Context(), c, q)
	if err != nil || len(a.RawOutputContents) != len(q.Inputs) {
		t.Fatalf("raw: %v %v", a, err)
	}
	for i, raw := range a.RawOutputContents {
		if a.Outputs[i].Name != q.Outputs[i].Name || !bytes.Equal(raw, q.RawInputContents[i]) {
			t.Errorf("raw: output %s is %x, want that of %s, %x", a.Outputs[i].Name, raw, q.Outputs[i].Name, q.RawInputContents[i])
		}
	}
	// Typed, but for the two that cannot be.
	m := everyType(t, tensor.Float16, tensor.BFloat16)
	c = run(t, Config{}, m).dial(t)
	q = &oippb.ModelInferRequest{ModelName: m.Name}
	for name, contents := range typed {
		q.Inputs = append(q.Inputs, &oippb.ModelInferRequest_InferInputTensor{Name: name, Datatype: name, Shape: []int64{1, 2}, Contents: contents})
	}
	if a, err = infer(t.Context(), c, q); err != nil || len(a.Outputs) != len(typed) {
		t.Fatalf("typed: %v %v", a, err)
	}
	for _, out := range a.Outputs {
		if want := typed[out.Name[1:]]; !proto.Equal(out.Contents, want) {
			t.Errorf("typed: output %s is %v, want %v", out.Name, out.Contents, want)
		}
	}
}

func TestBadMessages(t *testing.T) {
	c := run(t, Config{}, everyType(t), digitModel(t, flock.Config{})).dial(t)
	for _, test := range []struct {
		name string
		edit func(q *oippb.ModelInferRequest)
		code grpccodes.Code
		said string
	}{
		{"no model", func(q *oippb.ModelInferRequest) { q.ModelName = "" }, grpccodes.NotFound, `there is no model ""`},
		{"no version", func(q *oippb.ModelInferRequest) { q.ModelVersion = "2" }, grpccodes.NotFound, `has no version "2"`},
		{"no input", func(q *oippb.ModelInferRequest) { q.Inputs, q.RawInputContents = nil, nil }, grpccodes.InvalidArgument, `input "input": want FP32 [1,1,28,28], got nothing`},
		{"no data", func(q *oippb.ModelInferRequest) { q.RawInputContents = nil }, grpccodes.InvalidArgument, `input "input": want FP32 [1,1,28,28], got no data`},
		{"other input", func(q *oippb.ModelInferRequest) { q.Inputs[0].Name = "x" }, grpccodes.InvalidArgument, `there is no input "x": model "digits" takes "input"`},
		{"twice", func(q *oippb.ModelInferRequest) { q.Inputs = append(q.Inputs, q.Inputs[0]) }, grpccodes.InvalidArgument, `input "input" is given twice`},
		{"shape", func(q *oippb.ModelInferRequest) { q.Inputs[0].Shape[0] = 2 }, grpccodes.InvalidArgument, `want FP32 [1,1,28,28], got FP32 [2,1,28,28]`},
		{"negative", func(q *oippb.ModelInferRequest) { q.Inputs[0].Shape[0] = -1 }, grpccodes.InvalidArgument, `a dimension of -1`},
		{"dimensions", func(q *oippb.ModelInferRequest) { q.Inputs[0].Shape = make([]int64, 65) }, grpccodes.InvalidArgument, `more than 64 dimensions`},
		{"datatype", func(q *oippb.ModelInferRequest) { q.Inputs[0].Datatype = "FP64" }, grpccodes.InvalidArgument, `got FP64 [1,1,28,28]`},
		{"size", func(q *oippb.ModelInferRequest) { q.RawInputContents[0] = q.RawInputContents[0][1:] }, grpccodes.InvalidArgument, `want 3136 bytes for FP32 [1,1,28,28], got 3135 in raw_input_contents`},
		{"two raw", func(q *oippb.ModelInferRequest) { q.RawInputContents = append(q.RawInputContents, nil) }, grpccodes.InvalidArgument, `more than the 1 of inputs`},
		{"both", func(q *oippb.ModelInferRequest) { q.Inputs[0].Contents = typedDigit(0).Inputs[0].Contents }, grpccodes.InvalidArgument, `both contents and raw_input_contents`},
		{"few", func(q *oippb.ModelInferRequest) {
			q.RawInputContents, q.Inputs[0].Contents = nil, &oippb.InferTensorContents{Fp32Contents: make([]float32, 783)}
		}, grpccodes.InvalidArgument, `783 values where there must be 784`},
		{"many", func(q *oippb.ModelInferRequest) {
			q.RawInputContents, q.Inputs[0].Contents = nil, &oippb.InferTensorContents{Fp32Contents: make([]float32, 785)}
		}, grpccodes.InvalidArgument, `more than 784 values`},
		{"other contents", func(q *oippb.ModelInferRequest) {
			q.RawInputContents, q.Inputs[0].Contents = nil, &oippb.InferTensorContents{Fp64Contents: make([]float64, 784)}
		}, grpccodes.InvalidArgument, `want fp32_contents, got fp64_contents`},
		{"output", func(q *oippb.ModelInferRequest) {
			q.Outputs = []*oippb.ModelInferRequest_InferRequestedOutputTensor{{Name: "y"}}
		}, grpccodes.InvalidArgument, `there is no output "y": model "digits" gives "logits"`},
		{"classification", func(q *oippb.ModelInferRequest) {
			q.Outputs = []*oippb.ModelInferRequest_InferRequestedOutputTensor{{Name: "logits", Parameters: map[string]*oippb.InferParameter{"classification": {}}}}
		}, grpccodes.InvalidArgument, `parameter classification is not supported`},
		{"kind of timeout", func(q *oippb.ModelInferRequest) {
			q.Parameters = map[string]*oippb.InferParameter{"timeout": {ParameterChoice: &oippb.InferParameter_StringParam{StringParam: "1"}}}
		}, grpccodes.InvalidArgument, `parameter timeout: want int64_param`},
		{"timeout", func(q *oippb.ModelInferRequest) {
			q.Parameters = map[string]*oippb.InferParameter{"timeout": {ParameterChoice: &oippb.InferParameter_Int64Param{Int64Param: -1}}}
		}, grpccodes.InvalidArgument, `timeout is -1`},
		{"long", func(q *oippb.ModelInferRequest) { q.Id = strings.Repeat("x", 100000) }, grpccodes.ResourceExhausted, `larger than any needs`},
		{"16 bits", func(q *oippb.ModelInferRequest) {
			q.ModelName, q.RawInputContents = "types", nil
			q.Inputs[0] = &oippb.ModelInferRequest_InferInputTensor{Name: "FP16", Datatype: "FP16", Shape: []int64{1, 2}, Contents: &oippb.InferTensorContents{Fp32Contents: []float32{1, 2}}}
		}, grpccodes.InvalidArgument, `there are no contents of FP16: send raw_input_contents`},
		{"8 bits", func(q *oippb.ModelInferRequest) {
			q.ModelName, q.RawInputContents = "types", nil
			q.Inputs[0] = &oippb.ModelInferRequest_InferInputTensor{Name: "INT8", Datatype: "INT8", Shape: []int64{1, 2}, Contents: &oippb.InferTensorContents{IntContents: []int32{1, -129}}}
		}, grpccodes.InvalidArgument, `element 1 is out of range`},
		{"boolean", func(q *oippb.ModelInferRequest) {
			q.ModelName, q.RawInputContents = "types", [][]byte{{1, 2}}
			q.Inputs[0] = &oippb.ModelInferRequest_InferInputTensor{Name: "BOOL", Datatype: "BOOL", Shape: []int64{1, 2}}
		}, grpccodes.InvalidArgument, `input "BOOL": element 1 is 2, not 0 or 1`},
	} {
		q := rawDigit(0)
		test.edit(q)
		if _, err := infer(t.Context(), c, q); status.Code(err) != test.code || !strings.Contains(status.Convert(err).Message(), test.said) {
			t.Errorf("%s: %v, want %v …%s…", test.name, err, test.code, test.said)
		}
	}
}

// TestBadCalls sends what gRPC itself does not want so, or we do not take.
func TestBadCalls(t *testing.T) {
	r := run(t, Config{}, digitModel(t, flock.Config{}))
	if _, err := infer(t.Context(), r.dial(t), rawDigit(0), grpc.UseCompressor(gzip.Name)); status.Code(err) != grpccodes.Unimplemented {
		t.Errorf("compressed: %v, want Unimplemented", err)
	}
	if a, err := http.Get("http://" + r.rpc + "/v2"); err != nil {
		t.Error(err)
	} else if a.Body.Close(); a.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("HTTP/1: %s", a.Status)
	}
	h := &http.Transport{Protocols: new(http.Protocols)}
	h.Protocols.SetUnencryptedHTTP2(true)
	defer h.CloseIdleConnections()
	for _, test := range []struct {
		name, kind, timeout, body string
		status                    int
		code, said                string
	}{
		{"no gRPC", "application/json", "", "{}", 415, "", ""},
		{"no message", "application/grpc", "", "", 200, "3", "the request ends within its message"},
		{"half a message", "application/grpc+proto", "1S", "\x00\x00\x00\x00\x02x", 200, "3", "the request ends within its message"},
		{"no message of its kind", "application/grpc", "99999999H", "\x00\x00\x00\x00\x01\xff", 200, "3", "the message is not in the form of protocol buffers"},
		{"no time", "application/grpc", "5x", "", 200, "3", `grpc-timeout "5x" is no time`},
		{"time of no length", "application/grpc", "S", "", 200, "3", "grpc-timeout"},
		{"no time left", "application/grpc", "0n", "\x00\x00\x00\x00\x00", 200, "5", "there is no model"},
		{"four GiB", "application/grpc", "", "\x00\xff\xff\xff\xff", 200, "8", "a message of 4294967295 bytes"},
	} {
		q, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+r.rpc+service+"ModelInfer", strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", test.kind)
		q.Header.Set("Grpc-Timeout", test.timeout)
		a, err := h.RoundTrip(q)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, a.Body)
		a.Body.Close()
		if err != nil || a.StatusCode != test.status || a.Trailer.Get("Grpc-Status") != test.code || !strings.Contains(a.Trailer.Get("Grpc-Message"), test.said) {
			t.Errorf("%s: %d, %v (%v), want %d, %s …%s…", test.name, a.StatusCode, a.Trailer, err, test.status, test.code, test.said)
		}
	}
}

// retryAfter is when an error says to come again.
func retryAfter(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if r, ok := detail.(*errdetails.RetryInfo); ok {
			return r.RetryDelay.AsDuration()
		}
	}
	return 0
}

// halfOpen begins a ModelInfer whose message does not come yet.
func halfOpen(t *testing.T, s *Server, c *grpc.ClientConn) grpc.ClientStream {
	t.Helper()
	stream, err := c.NewStream(t.Context(), &grpc.StreamDesc{}, service+"ModelInfer")
	if err != nil {
		t.Fatal(err)
	}
	limit, tick := time.After(within), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for len(s.places) == 0 {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("the request takes no place")
		}
	}
	return stream
}

// TestNoPlaceForMessage refuses what is more than may be under way at once before it
// is read; asking after models goes on.
func TestNoPlaceForMessage(t *testing.T) {
	r := run(t, Config{Requests: 1}, digitModel(t, flock.Config{}))
	c := r.dial(t)
	first := halfOpen(t, r.server, c)
	_, err := infer(t.Context(), c, rawDigit(1))
	if status.Code(err) != grpccodes.ResourceExhausted || retryAfter(err) != time.Second || !strings.Contains(err.Error(), "busy: 1 requests") {
		t.Errorf("%v, again after %v", err, retryAfter(err))
	}
	if got := r.post(t, "digits", nil); got.status != 503 {
		t.Errorf("REST: %d %s, want 503", got.status, got.body)
	}
	if err := c.Invoke(t.Context(), service+"ServerReady", &oippb.ServerReadyRequest{}, &oippb.ServerReadyResponse{}); err != nil {
		t.Error(err)
	}
	r.end() // what is under way is answered nevertheless
	if err := errors.Join(first.SendMsg(rawDigit(1)), first.CloseSend(), first.RecvMsg(new(oippb.ModelInferResponse))); err != nil {
		t.Errorf("the first one: %v", err)
	}
}

// TestEndOfPatienceWithMessage ends a server whose client does not go on.
func TestEndOfPatienceWithMessage(t *testing.T) {
	s, err := New([]Model{digitModel(t, flock.Config{})}, Config{Drain: 1})
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, listen(t), l) }()
	halfOpen(t, s, (&running{rpc: l.Addr().String()}).dial(t))
	cancel()
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
}

// TestFlood sends more than a flock lets in and lets wait: each is answered right, or
// told when to come again.
func TestFlood(t *testing.T) {
	m := digitModel(t, flock.Config{Concurrency: 1, Waiting: -1})
	c := run(t, Config{}, m).dial(t)
	want := local(t, m, 2)
	var all sync.WaitGroup
	var mu sync.Mutex
	var refused, answered int // mu guards both
	defer all.Wait()
	for range 32 {
		all.Go(func() {
			for range 1000 { // until one was refused
				a, err := infer(t.Context(), c, rawDigit(2))
				mu.Lock()
				switch {
				case status.Code(err) == grpccodes.ResourceExhausted && retryAfter(err) > 0:
					refused++
				case err != nil:
					t.Error(err)
				case !bytes.Equal(a.RawOutputContents[0], want.Data):
					t.Error("another answer")
				default:
					answered++
				}
				done := t.Failed() || refused > 0 && answered > 0
				mu.Unlock()
				if done {
					return
				}
			}
		})
	}
	all.Wait()
	if refused == 0 || answered == 0 {
		t.Errorf("%d refused, %d answered", refused, answered)
	}
}

// TestCancelMessage has a client cancel when the workers compute for it.
func TestCancelMessage(t *testing.T) {
	m, marks, scattered := slowly(t)
	c := run(t, Config{}, m).dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	before := m.Flock.Status()
	go func() {
		defer cancel()
		sentToAll(m, before, scattered)
	}()
	if _, err := infer(ctx, c, rawDigit(0)); status.Code(err) != grpccodes.Canceled {
		t.Fatalf("%v, want Canceled", err)
	}
	dropped(t, marks)
}

// TestDeadlineOfMessage has a client's time end likewise, by its deadline and by the
// request's parameter.
func TestDeadlineOfMessage(t *testing.T) {
	for _, parameter := range []bool{false, true} {
		t.Run(fmt.Sprintf("parameter %v", parameter), func(t *testing.T) {
			m, marks, scattered := slowly(t)
			c := run(t, Config{}, m).dial(t)
			for timeout := 50 * time.Millisecond; len(scattered) == 0; timeout *= 2 { // on a busy machine the first may not come that far
				ctx, cancel := context.WithCancel(t.Context())
				q := rawDigit(0)
				if parameter {
					q.Parameters = map[string]*oippb.InferParameter{"timeout": {ParameterChoice: &oippb.InferParameter_Int64Param{Int64Param: timeout.Microseconds()}}}
				} else {
					ctx, cancel = context.WithTimeout(t.Context(), timeout)
				}
				_, err := infer(ctx, c, q)
				cancel()
				if status.Code(err) != grpccodes.DeadlineExceeded {
					t.Fatalf("%v, want DeadlineExceeded", err)
				}
			}
			dropped(t, marks)
		})
	}
}

// TestDecodedMessage has a worker killed: the answer's head says what parity gave.
func TestDecodedMessage(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := digitModel(t, flock.Config{
		Plan: withWorkers, StateDir: t.TempDir(), Command: []string{self, "worker", t.TempDir()},
		Faults: []flock.Fault{{Kind: "kill", Worker: 0, Request: 1}},
	})
	c := run(t, Config{}, m).dial(t)
	for range 1000 { // until it is missed
		var head headers.MD
		a, err := infer(t.Context(), c, rawDigit(0), grpc.Header(&head))
		if err != nil || len(a.RawOutputContents) != 1 {
			t.Fatalf("%v %v", a, err)
		}
		for _, decoded := range head.Get("starling-decoded") {
			if !regexp.MustCompile(`^[^ :,]+:\d@w\d(, [^ :,]+:\d@w\d)*$`).MatchString(decoded) {
				t.Errorf("starling-decoded: %s", decoded)
			}
			if strings.Contains(decoded, "@w1") { // else another one was late
				return
			}
		}
	}
	t.Error("nothing was decoded")
}

// FuzzMessage reads requests from anyone. What is taken has the numbers that
// proto.Unmarshal finds in it.
func FuzzMessage(f *testing.F) {
	x := &oippb.ModelInferRequest_InferInputTensor{Name: "x", Datatype: "FP32", Shape: []int64{2, 1, 2}}
	n := &oippb.ModelInferRequest_InferInputTensor{Name: "n", Datatype: "INT8", Shape: []int64{1}}
	raw := &oippb.ModelInferRequest{ModelName: "small", Id: "ä", Inputs: []*oippb.ModelInferRequest_InferInputTensor{x, n}, RawInputContents: [][]byte{make([]byte, 16), {7}}}
	typed := proto.CloneOf(raw)
	typed.RawInputContents = nil
	typed.Inputs[0].Contents = &oippb.InferTensorContents{Fp32Contents: []float32{1, 2, 3, 4}}
	typed.Inputs[1].Contents = &oippb.InferTensorContents{IntContents: []int32{-7}}
	typed.Outputs = []*oippb.ModelInferRequest_InferRequestedOutputTensor{{Name: "y"}}
	typed.Parameters = map[string]*oippb.InferParameter{"timeout": {ParameterChoice: &oippb.InferParameter_Int64Param{Int64Param: 5}}}
	for _, q := range []*oippb.ModelInferRequest{raw, typed} {
		b, err := proto.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\x2a\x02\x18\xff"))
	f.Add([]byte{})
	m := smallModel()
	s, err := New([]Model{m.Model}, Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := s.addressee(b); err != nil {
			if got, _ := codeOf(err); got != notFound && got != invalidArgument {
				t.Errorf("%v: code %d", err, got)
			}
		}
		q := m.take()
		defer m.give(q)
		if err := q.readMessage(b); err != nil {
			if got, _ := codeOf(err); got != invalidArgument {
				t.Errorf("%v: code %d", err, got)
			}
			return
		}
		var want oippb.ModelInferRequest
		if proto.Unmarshal(b, &want) != nil {
			return // strings that are not in UTF-8, of which nothing is made
		}
		if q.id != want.Id || len(want.Inputs) != len(q.inputs) {
			t.Fatalf("id %q and %d inputs, want %v", q.id, len(q.inputs), &want)
		}
		for i, in := range want.Inputs {
			got := q.inputs[m.inputs[in.Name]]
			if q.raw {
				if !bytes.Equal(got.Data, want.RawInputContents[i]) {
					t.Errorf("input %s is %x, want %x", in.Name, got.Data, want.RawInputContents[i])
				}
			} else if c := contentsOf(got); !proto.Equal(c, in.Contents) {
				t.Errorf("input %s is %v, want %v", in.Name, c, in.Contents)
			}
		}
	})
}
