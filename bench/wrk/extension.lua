-- Load for wrk: one-pair sets on random messages, or pulls.
--
--   wrk ... -s extension.lua URL -- CASE MESSAGES SEED [verify]
--
-- CASE is "set" or "pull"; messages 1..MESSAGES are named at random; one SEED gives one sequence of requests.
-- With "verify" every answer is looked into, which costs so much that such a run is not for timing.
-- Prints one line "RESULT ..." with members of a JSON object.

local KEYS, VALUES, VALUE_BYTES = 20, 256, 40
local ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
  thread:set("number", #threads)
end

local head, body

local function random_value()
  local letters = {}
  for i = 1, VALUE_BYTES do
    local at = math.random(#ALPHABET)
    letters[i] = ALPHABET:sub(at, at)
  end
  return table.concat(letters)
end

local bodies = {}

function bodies.set(messages)
  -- Made beforehand, so that a request costs the client two random numbers and two joined strings.
  local ends = {}
  for key = 0, KEYS - 1 do
    for _ = 1, VALUES / 16 do
      ends[#ends + 1] = string.format(
        ',"OperateType":1,"ExtensionList":[{"Key":"attr%02dname","Value":"%s","Seq":0}]}', key, random_value())
    end
  end
  return function()
    return '{"GroupId":"bench","MsgSeq":' .. math.random(messages) .. ends[math.random(#ends)]
  end
end

function bodies.pull(messages)
  return function()
    return '{"GroupId":"bench","MsgSeq":' .. math.random(messages) .. "}"
  end
end

-- Counters of the verification, read by done().
answers, not_200, refused, pairs_refused = 0, 0, 0, 0

local function look(status, _, text)
  answers = answers + 1
  if status ~= 200 then
    not_200 = not_200 + 1
    return
  end
  -- The verdict of the envelope is what is left when the list, which has verdicts of its own, is cut out.
  local envelope = text:gsub('"ExtensionList":%b[]', "")
  if envelope:match('"ErrorCode":(%-?%d+)') ~= "0" then
    refused = refused + 1
  elseif text:find('"ErrorCode":[^0]') then
    pairs_refused = pairs_refused + 1
  end
end

function init(args)
  local case, messages, seed, mode = args[1], tonumber(args[2]), tonumber(args[3]), args[4]
  assert(bodies[case] and messages and seed, "arguments: CASE MESSAGES SEED [verify]")
  math.randomseed(seed * 64 + number)
  body = bodies[case](messages)
  head = string.format("POST %s HTTP/1.1\r\nHost: %s:%s\r\nContent-Type: application/json\r\nContent-Length: ",
    wrk.path, wrk.host, wrk.port)
  if mode == "verify" then response = look end
end

function request()
  local text = body()
  return head .. #text .. "\r\n\r\n" .. text
end

local function sum(name)
  local total = 0
  for _, thread in ipairs(threads) do total = total + thread:get(name) end
  return total
end

function done(summary, latency)
  local e = summary.errors
  local sockets = e.connect + e.read + e.write + e.timeout
  if sum("answers") > 0 then
    print(string.format('RESULT "answers":%d,"not_200":%d,"refused":%d,"pairs_refused":%d,"errors":%d',
      sum("answers"), sum("not_200"), sum("refused"), sum("pairs_refused"), sockets))
  else
    print(string.format('RESULT "requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"errors":%d',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), sockets + e.status))
  end
end
