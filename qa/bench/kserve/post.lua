-- One JSON inference of add_sub FP32[16], for wrk.
local function tensor(name)
  return '{"name":"' .. name .. '","datatype":"FP32","shape":[16],"data":[' .. string.rep("1.5,", 15) .. '1.5]}'
end
wrk.method = "POST"
wrk.path = "/v2/models/add_sub/infer"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"inputs":[' .. tensor("INPUT0") .. "," .. tensor("INPUT1") .. "]}"
