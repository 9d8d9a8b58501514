%% @doc The calls of registered functions and the questions that one worker's Python code
%% has under way: a limited number runs at a time, the others wait in a queue.
%%
%% The process that holds this value gets the `DOWN' messages of those that run, for
%% {@link ended/3}, and `{timeout, Timer, stall}', for {@link stalled/2}.
%% @hidden
-module(py_callback_queue).

-include("py_worker.hrl").

-export([new/1, add/3, ended/3, stalled/2]).
-export_type([callbacks/0]).

%% Callbacks of one worker that run at a time, unless the application's
%% `max_callbacks' says otherwise; more of them wait. A larger number costs memory
%% in the node, a smaller one makes callbacks wait that could run.
-define(MAX_RUNNING, 1000).

%% Callbacks may wait for each other: a registered function calls Python, which
%% calls a registered function. If none of those that run has ended for this long
%% although others wait, one more starts; the next after half the time, down to a
%% millisecond. So a limit that is too small for a chain of calls slows it down,
%% and never stops it for good.
-define(STALL_MS, 64).

%% Python is sent what was taken in steps of this many bytes, of 8 MiB that may be
%% under way.
-define(CREDIT_BYTES, 1024 * 1024).

-record(callbacks, {
    worker :: #worker{},
    max_running :: pos_integer(),
    running = #{} :: #{reference() => Id :: binary()},
    waiting = queue:new() :: queue:queue({Id :: binary(), Payload :: binary()}),
    stall = ?STALL_MS :: pos_integer(),
    stall_timer :: undefined | reference(),
    %% Whether one has ended since the timer was started.
    has_ended = false :: boolean(),
    credit :: py_credit:credit()
}).
-opaque callbacks() :: #callbacks{}.

-spec new(#worker{}) -> callbacks().
new(Worker) ->
    #callbacks{
        worker = Worker,
        max_running = application:get_env(erlang_python, max_callbacks, ?MAX_RUNNING),
        credit = py_credit:new(Worker, callback, ?CREDIT_BYTES)
    }.

%% @doc Starts a callback, or lets it wait behind others.
-spec add(Id :: binary(), Payload :: binary(), callbacks()) -> callbacks().
add(Id, Payload, C = #callbacks{running = Running, max_running = Max, waiting = Waiting}) ->
    case map_size(Running) < Max andalso queue:is_empty(Waiting) of
        true -> start(Id, Payload, C);
        false -> watch(C#callbacks{waiting = queue:in({Id, Payload}, Waiting)})
    end.

start(Id, Payload, C = #callbacks{worker = Worker, running = Running, credit = Credit}) ->
    Taken = C#callbacks{credit = py_credit:taken(byte_size(Payload), Credit)},
    try py_callback:start(Worker, Id, Payload) of
        {_Pid, Monitor} -> Taken#callbacks{running = Running#{Monitor => Id}}
    catch
        %% The node has as many processes as it may have.
        error:system_limit ->
            _ = py_callback:failed(Worker, Id, system_limit),
            Taken
    end.

%% @doc The process with this monitor has ended; the next callback may start.
-spec ended(reference(), Reason :: term(), callbacks()) -> callbacks().
ended(Monitor, Reason, C = #callbacks{worker = Worker, running = Running}) ->
    {Id, Rest} = maps:take(Monitor, Running),
    _ = Reason =:= normal orelse py_callback:failed(Worker, Id, Reason),
    next(C#callbacks{running = Rest, stall = ?STALL_MS, has_ended = true}).

next(C = #callbacks{running = Running, max_running = Max}) when map_size(Running) < Max ->
    start_next(C);
next(C) ->
    C.

start_next(C = #callbacks{waiting = Waiting}) ->
    case queue:out(Waiting) of
        {{value, {Id, Payload}}, Rest} -> start(Id, Payload, C#callbacks{waiting = Rest});
        {empty, _} -> C
    end.

watch(C = #callbacks{stall_timer = undefined, stall = Stall}) ->
    Timer = erlang:start_timer(Stall, self(), stall),
    C#callbacks{stall_timer = Timer, has_ended = false};
watch(C) ->
    C.

%% @doc The timer has fired: starts one more if none has ended meanwhile.
-spec stalled(Timer :: reference(), callbacks()) -> callbacks().
stalled(Timer, C = #callbacks{stall_timer = Timer, waiting = Waiting, stall = Stall}) ->
    Fired = C#callbacks{stall_timer = undefined},
    case queue:is_empty(Waiting) of
        true -> Fired;
        false when C#callbacks.has_ended -> watch(Fired);
        false -> watch(start_next(Fired#callbacks{stall = max(1, Stall div 2)}))
    end.
