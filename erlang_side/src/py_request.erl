%% @doc A request from its start to its end, for those who watch: telemetry's events, the
%% counters of errors, and the list of what is under way.
%%
%% The list is the table py_requests. A call is entered there when it has run for
%% a while, so that a short one costs nothing.
%% @hidden
-module(py_request).

-include("py_worker.hrl").

-export([tables/0, begun/5, served/4, enter/2, ended/2, ended/3, names/1]).
-export([under_way/2, sweep/0, sweep/1]).
-export_type([request/0, what/0]).

-define(TABLE, py_requests).

-type kind() :: call | eval | exec | stream.
-type what() :: py_call:target() | exec.

-record(request, {
    kind :: kind(),
    worker :: #worker{} | none,
    what :: what(),
    ref :: reference(),
    %% Of one that nobody watches it is set when it is entered: reading the clock takes time.
    started = unknown :: integer() | unknown,
    %% Metadata of telemetry's events, if there are any.
    meta = none :: none | map(),
    is_entered = false :: boolean()
}).
-opaque request() :: #request{}.

%% @doc Makes the table.
-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, ordered_set, {write_concurrency, true}]),
    ok.

%% @doc A request is about to be written. `Opts' are its options, or those of the route to
%% another node.
-spec begun(call | exec | stream, #worker{} | none, what(), reference(), map()) -> request().
begun(Kind, Worker, What, Ref, Opts) ->
    Request = #request{
        kind = kind(Kind, What),
        worker = Worker,
        what = What,
        ref = Ref
    },
    case py_telemetry:is_on() of
        true -> start_event(Request#request{started = erlang:monotonic_time()}, Opts);
        false -> Request
    end.

kind(call, {expression, _, _, _, _}) -> eval;
kind(Kind, _What) -> Kind.

start_event(Request = #request{kind = Kind, worker = Worker, what = What, ref = Ref, started = Started}, Opts) ->
    {Module, Function} = names(What),
    {Pool, Pid} =
        case Worker of
            #worker{pool = P, pid = W} -> {P, W};
            none -> {maps:get(pool, Opts, undefined), undefined}
        end,
    Meta = #{
        pool => Pool,
        worker => Pid,
        kind => Kind,
        module => Module,
        function => Function,
        ref => Ref,
        metadata => maps:get(metadata, Opts, #{}),
        telemetry_span_context => Ref
    },
    Measurements = #{monotonic_time => Started, system_time => erlang:system_time()},
    py_telemetry:event([event_name(Kind), start], Measurements, Meta),
    Request#request{meta = Meta}.

event_name(stream) -> stream;
event_name(_) -> call.

%% @doc Module and function of a request, or of what it runs. Expressions and code have no
%% name, and may be long.
-spec names(request() | what()) -> {binary(), binary()}.
names(#request{what = What}) -> names(What);
names({function, Module, Function, _, _}) -> {Module, Function};
names({expression, Code, _, _, _}) -> {<<"__main__">>, string:slice(Code, 0, 100)};
%% Of an object that Python holds.
names({method, _Handle, Function, _, _}) -> {<<>>, Function};
names(exec) -> {<<"__main__">>, <<"exec">>}.

%% @doc One of another node, which has its events: here it is in the list, and counted.
-spec served(call | stream, #worker{}, what(), reference()) -> request().
served(Kind, Worker, What, Ref) ->
    enter(#request{kind = kind(Kind, What), worker = Worker, what = What, ref = Ref}, 0).

%% @doc It is in the list of what is under way from now on. `Age' is for how long it has run, in
%% milliseconds.
-spec enter(request(), Age :: non_neg_integer()) -> request().
enter(Request = #request{worker = none}, _Age) ->
    Request;
enter(Request = #request{started = unknown}, Age) ->
    Before = erlang:convert_time_unit(Age, millisecond, native),
    enter(Request#request{started = erlang:monotonic_time() - Before}, Age);
enter(Request = #request{kind = Kind, what = What}, _Age) ->
    try
        ets:insert(?TABLE, {key(Request), self(), Kind, names(What)}),
        Request#request{is_entered = true}
    catch
        error:badarg -> Request
    end.

key(#request{worker = #worker{pid = Pid}, started = Started, ref = Ref}) ->
    {Pid, Started, Ref}.

%% @doc It has ended.
-spec ended(request(), ok | done | {ok, term()} | {error, py_error:reason()}) -> ok.
ended(Request, Result) ->
    ended(Request, Result, #{queue_time => 0}).

-spec ended(request(), ok | done | {ok, term()} | {error, py_error:reason()}, #{atom() => term()}) -> ok.
ended(Request = #request{worker = Worker, meta = Meta}, Result, Measurements) ->
    _ = Request#request.is_entered andalso leave(Request),
    case Result of
        {error, Reason} when Worker =/= none -> py_counters:error(Worker, Reason);
        _ -> ok
    end,
    Meta =:= none orelse end_event(Result, Request, Measurements),
    ok.

leave(Request) ->
    try
        ets:delete(?TABLE, key(Request))
    catch
        error:badarg -> true
    end.

end_event(Result, #request{kind = Kind, started = Started, meta = Meta}, Extra) ->
    Now = erlang:monotonic_time(),
    Measurements = Extra#{duration => Now - Started, monotonic_time => Now},
    Name = event_name(Kind),
    case Result of
        %% Whoever cancels wants it to end.
        {error, cancelled} ->
            py_telemetry:event([Name, stop], Measurements, Meta#{result => cancelled});
        {error, Reason} ->
            Failed = Meta#{result => error, kind => error, reason => Reason, stacktrace => []},
            py_telemetry:event([Name, exception], Measurements, Failed);
        _ ->
            py_telemetry:event([Name, stop], Measurements, Meta#{result => ok})
    end.

%% @doc Requests of a worker, the oldest first, and `Max' of them at most.
-spec under_way(pid(), pos_integer()) -> [py_pool_info:request_info()].
under_way(Worker, Max) ->
    Now = erlang:monotonic_time(),
    case ets:select(?TABLE, [{{{Worker, '$1', '$2'}, '_', '$3', '$4'}, [], [{{'$1', '$2', '$3', '$4'}}]}], Max) of
        '$end_of_table' -> [];
        {Rows, _} -> [info(Row, Now) || Row <- Rows]
    end.

info({Started, Ref, Kind, {Module, Function}}, Now) ->
    #{
        kind => Kind,
        module => Module,
        function => Function,
        ref => Ref,
        age => erlang:convert_time_unit(Now - Started, native, millisecond),
        since => erlang:convert_time_unit(Started + erlang:time_offset(), native, millisecond)
    }.

%% @doc Removes from the list of a worker what processes have left that were killed.
-spec sweep(pid()) -> ok.
sweep(Worker) ->
    Rows = ets:select(?TABLE, [{{{Worker, '$1', '$2'}, '$3', '_', '_'}, [], [{{'$1', '$2', '$3'}}]}]),
    [ets:delete(?TABLE, {Worker, Started, Ref}) || {Started, Ref, Pid} <- Rows, not is_process_alive(Pid)],
    ok.

%% @doc The same for workers that have ended.
-spec sweep() -> ok.
sweep() ->
    Rows = ets:select(?TABLE, [{{'$1', '$2', '_', '_'}, [], [{{'$1', '$2'}}]}]),
    [ets:delete(?TABLE, Key) || {Key = {Worker, _, _}, Pid} <- Rows, not is_process_alive(Worker), not is_process_alive(Pid)],
    ok.
