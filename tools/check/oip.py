"""Asks a server as a client of the Open Inference Protocol does who has never heard of
Starling: with Triton's own client library.
  oip.py HOST:PORT HOST:PORT MODEL INPUT OUTPUT FILE
The addresses are those of REST and gRPC. FILE has the input as float32 bytes. Prints the
output's values of each way to ask, a line each, exactly."""

import sys

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http

address, grpc_address, model, input_name, output_name, path = sys.argv[1:]
client = http.InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model, "1")
assert client.get_server_metadata()["name"] == "starling"
metadata = client.get_model_metadata(model)
(described,) = metadata["inputs"]
assert described["name"] == input_name and described["datatype"] == "FP32", metadata
x = np.fromfile(path, dtype="<f4").reshape(described["shape"])

for binary_in in (False, True):
    for binary_out in (False, True):
        tensor = http.InferInput(input_name, x.shape, "FP32")
        tensor.set_data_from_numpy(x, binary_data=binary_in)
        wanted = http.InferRequestedOutput(output_name, binary_data=binary_out)
        answer = client.infer(model, [tensor], outputs=[wanted], request_id="7", timeout=20_000_000)
        assert answer.get_response()["id"] == "7"
        print(*answer.as_numpy(output_name).ravel().tolist())

tensor = http.InferInput(input_name, [1, 2], "FP32")
tensor.set_data_from_numpy(np.zeros((1, 2), dtype="<f4"))
try:
    client.infer(model, [tensor])
except http.InferenceServerException as refused:
    assert refused.status() == "400" and "want FP32" in refused.message(), refused
else:
    raise AssertionError("a tensor of another shape was taken")

client = grpc.InferenceServerClient(grpc_address)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model, "1")
assert client.get_server_metadata().name == "starling"
(described,) = client.get_model_metadata(model).inputs
assert described.name == input_name and described.datatype == "FP32" and list(described.shape) == list(x.shape), described

tensor = grpc.InferInput(input_name, x.shape, "FP32")
tensor.set_data_from_numpy(x)
wanted = grpc.InferRequestedOutput(output_name)
answer = client.infer(model, [tensor], outputs=[wanted], request_id="7", timeout=20_000_000, client_timeout=20)
assert answer.get_response().id == "7"
print(*answer.as_numpy(output_name).ravel().tolist())

tensor = grpc.InferInput(input_name, [1, 2], "FP32")
tensor.set_data_from_numpy(np.zeros((1, 2), dtype="<f4"))
try:
    client.infer(model, [tensor])
except grpc.InferenceServerException as refused:
    assert refused.status() == "StatusCode.INVALID_ARGUMENT" and "want FP32" in refused.message(), refused
else:
    raise AssertionError("a tensor of another shape was taken")
