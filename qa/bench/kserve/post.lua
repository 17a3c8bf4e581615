-- One inference of a model of FP32[16] tensors for wrk, binary both ways. MODEL names it, BATCHED gives it a batch of one.
local shape = os.getenv("BATCHED") and "[1,16]" or "[16]"
local function tensor(name)
  return '{"name":"' .. name .. '","datatype":"FP32","shape":' .. shape .. ',"parameters":{"binary_data_size":64}}'
end
local head = '{"inputs":[' .. tensor("INPUT0") .. "," .. tensor("INPUT1") .. '],"parameters":{"binary_data_output":true}}'
wrk.method = "POST"
wrk.path = "/v2/models/" .. os.getenv("MODEL") .. "/infer"
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.headers["Inference-Header-Content-Length"] = tostring(#head)
wrk.body = head .. string.rep("\0\0\192\63", 32)
