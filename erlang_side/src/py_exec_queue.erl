%% @doc The code that a pool's workers run: that of `py:exec', one after another, so that all of
%% them run the same code in the same order; and what a new worker has yet to run of the
%% journal, for which the others do not wait.
%%
%% The pool's manager holds this value. It gets a `DOWN' message for what has ended, for
%% {@link done/3}, and `exec_late', for {@link expire/3}.
%% @hidden
-module(py_exec_queue).

-include("py_worker.hrl").

-export([new/1, exec/5, catch_up/4, written/1, journal/1, execs/1, next/3, expire/3, done/3]).
-export_type([jobs/0, ready/0]).

%% How long what catches up waits where the node has as many processes as it may have. A larger
%% number keeps a worker from its work for longer, a smaller one costs tries.
-define(AGAIN_MS, 100).

-type ready() :: #{pid() => #worker{}}.
%% The workers that are ready.

-record(exec, {
    from :: gen_server:from(),
    code :: binary(),
    opts :: map(),
    %% Until when it must have ended, waiting included, in milliseconds of monotonic time, and since when
    %% it is there.
    deadline :: py_clock:deadline(),
    since :: integer(),
    %% For how long there may be no worker.
    wait :: timeout(),
    %% Whether a worker has it; otherwise it may have to begin anew.
    is_written = false :: boolean()
}).

-record(jobs, {
    pool :: py_pool:name(),
    running = none :: none | {Monitor :: reference(), #exec{}},
    waiting = queue:new() :: queue:queue(#exec{}),
    %% When code last ran: until then there was a worker.
    ran_at = none :: none | integer(),
    %% The workers that are behind, and those that are and wait until it is known whether the code that
    %% runs was written to any.
    catching_up = #{} :: #{Monitor :: reference() => pid()},
    behind = [] :: [{pid(), #worker{}, Number :: non_neg_integer()}]
}).
-opaque jobs() :: #jobs{}.

-spec new(py_pool:name()) -> jobs().
new(Pool) ->
    #jobs{pool = Pool}.

%% @doc Every worker is to run `Code'; `From' gets the result. `Wait' is for how long there may be
%% no worker.
-spec exec(gen_server:from(), Code :: binary(), Opts :: map(), Wait :: timeout(), jobs()) -> jobs().
exec(From, Code, Opts = #{timeout := Timeout}, Wait, Jobs = #jobs{waiting = Waiting}) ->
    Exec = #exec{from = From, code = Code, opts = Opts, deadline = until(Timeout), since = py_clock:now_ms(), wait = Wait},
    _ = until(Wait),
    Jobs#jobs{waiting = queue:in(Exec, Waiting)}.

until(Timeout) ->
    _ = is_integer(Timeout) andalso erlang:send_after(Timeout, self(), exec_late),
    py_clock:deadline(Timeout).

%% From now on those that wait may have no worker for as long as they may.
ran(Jobs = #jobs{waiting = Waiting}) ->
    _ =
        case queue:peek(Waiting) of
            {value, #exec{wait = Wait}} -> until(Wait);
            empty -> ok
        end,
    all_catch_up(Jobs#jobs{running = none, ran_at = py_clock:now_ms()}).

%% @doc A worker is to run what was added to the journal since it started.
-spec catch_up(pid(), #worker{}, Number :: non_neg_integer(), jobs()) -> jobs().
catch_up(Pid, Worker, Number, Jobs = #jobs{running = {_, #exec{is_written = false}}, behind = Behind}) ->
    Jobs#jobs{behind = [{Pid, Worker, Number} | Behind]};
catch_up(Pid, Worker, Number, Jobs = #jobs{pool = Pool, catching_up = CatchingUp}) ->
    Monitor = job(fun() -> py_exec_job:catch_up(Worker, Pool, Number) end),
    Jobs#jobs{catching_up = CatchingUp#{Monitor => Pid}}.

%% @doc The code that runs was written to a worker.
-spec written(jobs()) -> jobs().
written(Jobs = #jobs{running = {Monitor, Exec}}) ->
    all_catch_up(Jobs#jobs{running = {Monitor, Exec#exec{is_written = true}}});
written(Jobs) ->
    Jobs.

all_catch_up(Jobs = #jobs{behind = Behind}) ->
    lists:foldl(fun({Pid, Worker, N}, Acc) -> catch_up(Pid, Worker, N, Acc) end, Jobs#jobs{behind = []}, Behind).

%% Where the node has no room for a process it ends as if it had been there, and what catches up
%% begins again a while later.
job(Start) ->
    try
        Start()
    catch
        error:system_limit ->
            Monitor = make_ref(),
            _ = erlang:send_after(?AGAIN_MS, self(), {'DOWN', Monitor, process, self(), system_limit}),
            Monitor
    end.

%% @doc What a worker that starts now runs of the journal, and up to which number. Code that has not ended is not
%% among it: no worker may have had it, and it begins anew. If one had, the new worker catches up.
-spec journal(jobs()) -> {non_neg_integer(), [binary()]}.
journal(#jobs{pool = Pool, running = {_Monitor, #exec{opts = #{replay := true}}}}) ->
    py_journal:read(Pool, py_journal:last(Pool) - 1);
journal(#jobs{pool = Pool}) ->
    py_journal:read(Pool).

%% @doc How many `py:exec' wait. One that runs counts as a request of its workers.
-spec execs(jobs()) -> non_neg_integer().
execs(#jobs{waiting = Waiting}) ->
    queue:len(Waiting).

%% @doc Starts the next code unless some runs, and says in which workers. One that catches up runs
%% it from the journal. `Reason' is for who does not wait for a worker where there is none.
-spec next(ready(), py_error:reason(), jobs()) -> {[pid()], jobs()}.
next(Ready, Reason, Jobs = #jobs{running = none, waiting = Waiting, catching_up = CatchingUp}) ->
    case {queue:peek(Waiting), maps:without(maps:values(CatchingUp), Ready)} of
        {empty, _} ->
            {[], Jobs};
        {{value, Exec}, Workers} when map_size(Workers) =:= 0 ->
            case overdue(Exec, Workers, Reason, Jobs) of
                false ->
                    {[], Jobs};
                Late ->
                    gen_server:reply(Exec#exec.from, {error, Late}),
                    next(Ready, Reason, Jobs#jobs{waiting = queue:drop(Waiting)})
            end;
        {{value, Exec}, Workers} ->
            {maps:keys(Workers), start(Exec, maps:values(Workers), Jobs#jobs{waiting = queue:drop(Waiting)})}
    end;
next(_Ready, _Reason, Jobs) ->
    {[], Jobs}.

%% @doc Gives up what has waited for too long.
-spec expire(ready(), py_error:reason(), jobs()) -> jobs().
expire(Ready, Reason, Jobs = #jobs{waiting = Waiting}) ->
    Jobs#jobs{
        waiting = queue:filter(
            fun(Exec = #exec{from = From}) ->
                case overdue(Exec, Ready, Reason, Jobs) of
                    false ->
                        true;
                    Late ->
                        gen_server:reply(From, {error, Late}),
                        false
                end
            end,
            Waiting
        )
    }.

overdue(#exec{deadline = Deadline, since = Since, wait = Wait}, Ready, Reason, #jobs{ran_at = RanAt}) ->
    Now = py_clock:now_ms(),
    if
        Now >= Deadline -> timeout;
        map_size(Ready) > 0; Wait =:= infinity -> false;
        Wait =:= 0 -> Reason;
        is_integer(RanAt), Now < RanAt + Wait; Now < Since + Wait -> false;
        true -> {no_worker, Reason}
    end.

start(Exec = #exec{code = Code, opts = Opts = #{replay := Replay}, deadline = Deadline}, Workers, Jobs) ->
    Replay andalso py_journal:add(Jobs#jobs.pool, Code),
    Monitor = job(fun() -> py_exec_job:exec(Workers, Code, Opts#{timeout := py_clock:left(Deadline)}) end),
    Jobs#jobs{running = {Monitor, Exec}}.

%% @doc A process ended. `ran': code was run in the workers that it was started in; `caught_up': a
%% worker has run the journal up to that number, or could not.
-spec done(Monitor :: reference(), Reason :: term(), jobs()) ->
    {ran, jobs()} | {caught_up, pid(), non_neg_integer() | failed, jobs()} | unrelated.
done(Monitor, {shutdown, {result, unwritten}}, Jobs = #jobs{running = {Monitor, Exec}, waiting = Waiting}) ->
    %% It is the next again, for other workers.
    forget(Exec, Jobs#jobs.pool),
    {ran, ran(Jobs#jobs{waiting = queue:in_r(Exec, Waiting)})};
done(Monitor, Reason, Jobs = #jobs{running = {Monitor, Exec}, pool = Pool}) ->
    finish(Exec, Reason, Pool),
    {ran, ran(Jobs)};
done(Monitor, Reason, Jobs = #jobs{catching_up = CatchingUp}) ->
    case maps:take(Monitor, CatchingUp) of
        {Pid, Rest} ->
            Number =
                case Reason of
                    {shutdown, {result, Last}} when is_integer(Last) -> Last;
                    _ -> failed
                end,
            {caught_up, Pid, Number, Jobs#jobs{catching_up = Rest}};
        error ->
            unrelated
    end.

finish(Exec = #exec{from = From}, Reason, Pool) ->
    Result = result(Reason),
    Result =/= ok andalso is_known(Reason) andalso forget(Exec, Pool),
    gen_server:reply(From, Result).

forget(#exec{code = Code, opts = #{replay := Replay}}, Pool) ->
    Replay andalso py_journal:remove(Pool, Code).

result({shutdown, {result, Result}}) -> Result;
result(system_limit) -> {error, system_limit};
result(Reason) -> {error, py_error:worker_exit(Reason)}.

%% If the job was killed, the code may have run.
is_known({shutdown, {result, _}}) -> true;
is_known(Reason) -> Reason =:= system_limit.
