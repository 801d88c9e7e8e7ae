-- errors: the error of a job that waited too long.
local function deadline_error(job)
  local limit = string.format('%.0f', job[QUEUE_TIMEOUT])
  return '{"code":"queue_timeout","message":"waited longer than its queue_timeout of ' .. limit .. ' ms"}'
end
