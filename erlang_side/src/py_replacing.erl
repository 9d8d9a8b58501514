%% @doc How workers of a pool are replaced, one by one: first another is ready, then the one
%% in whose place it comes takes nothing new, ends what it runs, and leaves. The pool's manager
%% holds the value of those that are to leave, and of who waits for it.
%% @hidden
-module(py_replacing).

-export([new/0, add/3, restart/3, is_any/2, next/4, failed/2, leave/2, leave/4]).
-export_type([replacing/0]).

%% What a worker that is recycled may take to end what it runs, unless the application's
%% `drain_timeout' says otherwise. A larger number keeps its memory for longer, a smaller one
%% breaks off requests that run for long.
-define(DRAIN_MS, 30000).

%% How long nothing may have run in it until it leaves, and how often that is checked.
-define(IDLE_MS, 100).
-define(LEAVE_POLL_MS, 20).

-record(replacing, {
    %% Workers that are to leave, each when another is ready in its place.
    retiring = [] :: [pid()],
    %% Who waits until these workers have been replaced.
    restarters = [] :: [{gen_server:from(), [pid()]}]
}).
-opaque replacing() :: #replacing{}.

-spec new() -> replacing().
new() ->
    #replacing{}.

%% @doc A worker is to be replaced, after those that are already.
-spec add(pid(), py_slots:slots(), replacing()) -> replacing().
add(Pid, Slots, R = #replacing{retiring = Retiring}) ->
    case py_slots:is_ready(Pid, Slots) of
        true -> R#replacing{retiring = (Retiring -- [Pid]) ++ [Pid]};
        false -> R
    end.

%% @doc All that there are; `From' gets the answer when they have been replaced.
-spec restart(gen_server:from(), py_slots:slots(), replacing()) -> replacing().
restart(From, Slots, R = #replacing{restarters = Restarters}) ->
    Pids = lists:sort(maps:keys(py_slots:ready(Slots))),
    New = R#replacing{restarters = [{From, Pids} | Restarters]},
    lists:foldl(fun(Pid, Acc) -> add(Pid, Slots, Acc) end, New, Pids).

%% @doc Whether one more worker is needed than the pool has.
-spec is_any(py_slots:slots(), replacing()) -> boolean().
is_any(Slots, R) ->
    waiting(Slots, R) =/= [].

waiting(Slots, #replacing{retiring = Retiring}) ->
    [Pid || Pid <- Retiring, py_slots:is_ready(Pid, Slots)].

%% @doc What is to be done next: a worker leaves, another is to be there first, or nothing.
-spec next(Last :: non_neg_integer(), Size :: pos_integer(), py_slots:slots(), replacing()) ->
    {leave, pid(), replacing()} | {need, replacing()} | {none, replacing()}.
next(Last, Size, Slots, Before) ->
    R = answer_done(Slots, Before),
    case {waiting(Slots, R), length(py_slots:up_to_date(Last, Slots)) > Size} of
        {[Pid | Rest], true} -> {leave, Pid, R#replacing{retiring = Rest}};
        %% One that was to be replaced has died, and came back by itself.
        {[], true} -> {leave, py_slots:oldest(Last, Slots), R#replacing{retiring = []}};
        {[_ | _] = Retiring, false} -> {need, R#replacing{retiring = Retiring}};
        {[], false} -> {none, answer_all(ok, R#replacing{retiring = []})}
    end.

%% @doc No worker can start: those that there are stay.
-spec failed({error, py_error:reason()}, replacing()) -> replacing().
failed(Error, R) ->
    answer_all(Error, R#replacing{retiring = []}).

%% Those whose workers are gone from the row: others may be recycled without end.
answer_done(Slots, R = #replacing{restarters = Restarters}) ->
    {Waiting, Done} = lists:partition(
        fun({_From, Pids}) -> lists:any(fun(Pid) -> py_slots:is_ready(Pid, Slots) end, Pids) end, Restarters
    ),
    R#replacing{restarters = answer(ok, Done, Waiting)}.

answer_all(Answer, R = #replacing{restarters = Restarters}) ->
    R#replacing{restarters = answer(Answer, Restarters, [])}.

answer(Answer, Restarters, Rest) ->
    lists:foreach(fun({From, _Pids}) -> gen_server:reply(From, Answer) end, Restarters),
    Rest.

%% @doc A worker that is out of the row ends what it runs: it is checked at once, and again by
%% the message `{leave, Pid, IdleSince, Deadline}' for {@link leave/4}.
-spec leave(pid(), py_slots:slots()) -> ok.
leave(Pid, Slots) ->
    Timeout = application:get_env(erlang_python, drain_timeout, ?DRAIN_MS),
    leave(Pid, py_clock:now_ms(), py_clock:deadline(Timeout), Slots).

%% @doc Whoever found it in the row before has counted its request by now, or finds the mark.
-spec leave(pid(), IdleSince :: integer(), Deadline :: py_clock:deadline(), py_slots:slots()) -> ok.
leave(Pid, IdleSince, Deadline, Slots) ->
    case py_slots:find(Pid, Slots) of
        {leaving, Worker, _} ->
            Now = py_clock:now_ms(),
            IsIdle = py_load:requests(Worker) =< 0,
            IsLate = Now >= Deadline,
            case IsLate orelse (IsIdle andalso Now - IdleSince >= ?IDLE_MS andalso py_load:close(Worker)) of
                true ->
                    true = exit(Pid, shutdown),
                    ok;
                false ->
                    Since = case IsIdle of true -> IdleSince; false -> Now end,
                    _ = erlang:send_after(?LEAVE_POLL_MS, self(), {leave, Pid, Since, Deadline}),
                    ok
            end;
        _ ->
            %% It has died.
            ok
    end.
