-- For wrk: sends the requests of a file, over and over: wrk -s replay.lua URL -- FILE PIPELINED
--
-- FILE has, for each request, a line with its length and then its bytes. "{counter}" in a request becomes a number
-- of 16 hexadecimal digits, another one each time. PIPELINED requests are sent at a time.

local requests, at, counter = {}, 0, 0
local pipelined = 1

local function next_request()
  at = at % #requests + 1
  local head, tail = requests[at][1], requests[at][2]
  if not tail then return head end
  counter = counter + 1
  return string.format("%s%016x%s", head, counter, tail)
end

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  pipelined = tonumber(arguments[2])
  for length in file:lines() do
    local data = file:read(tonumber(length))
    local first, last = data:find("{counter}", 1, true)
    requests[#requests + 1] = first and { data:sub(1, first - 1), data:sub(last + 1) } or { data }
  end
  file:close()
end

function request()
  if pipelined == 1 then return next_request() end
  local many = {}
  for number = 1, pipelined do many[number] = next_request() end
  return table.concat(many)
end
