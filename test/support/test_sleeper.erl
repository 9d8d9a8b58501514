%% @doc An owner of streams that takes its mail on request.
%%
%% It needs nothing but OTP, so that it can be sent to a node that has nothing else.
-module(test_sleeper).

-export([start/0, start/1, init/1]).
-export([take/3, take_all/2, mail/1, values/2, stop/1]).

%% @doc Starts one that is linked to no process.
-spec start() -> pid().
start() ->
    spawn(?MODULE, init, [self()]).

%% @doc Starts one on another node, which is sent this module.
-spec start(node()) -> pid().
start(Node) ->
    {?MODULE, Code, File} = code:get_object_code(?MODULE),
    {module, ?MODULE} = erpc:call(Node, code, load_binary, [?MODULE, File, Code]),
    spawn(Node, ?MODULE, init, [self()]).

%% @doc The next `N' events of a stream, or fewer where the last is a terminal one.
-spec take(pid(), reference(), non_neg_integer()) -> [term()].
take(Sleeper, Ref, N) ->
    ask(Sleeper, {take, Ref, N}).

%% @doc All values to the end, and the terminal event.
-spec take_all(pid(), reference()) -> {[term()], term()}.
take_all(Sleeper, Ref) ->
    ask(Sleeper, {take_all, Ref}).

%% @doc What is in its mailbox.
-spec mail(pid()) -> [term()].
mail(Sleeper) when node(Sleeper) =:= node() ->
    {messages, Messages} = process_info(Sleeper, messages),
    Messages;
mail(Sleeper) ->
    {messages, Messages} = erpc:call(node(Sleeper), erlang, process_info, [Sleeper, messages]),
    Messages.

%% @doc The values of a stream that are in its mailbox.
-spec values(pid(), reference()) -> [term()].
values(Sleeper, Ref) ->
    lists:append([
        case Event of
            {data, Value} -> [Value];
            {batch, Values} -> Values;
            _ -> []
        end
     || {py_stream, R, Event} <- mail(Sleeper), R =:= Ref
    ]).

%% @doc Ends it.
-spec stop(pid()) -> ok.
stop(Sleeper) ->
    Monitor = monitor(process, Sleeper),
    exit(Sleeper, kill),
    receive
        {'DOWN', Monitor, _, _, _} -> ok
    end.

ask(Sleeper, Question) ->
    Monitor = monitor(process, Sleeper),
    Sleeper ! {Monitor, self(), Question},
    receive
        {Monitor, Answer} ->
            demonitor(Monitor, [flush]),
            Answer;
        {'DOWN', Monitor, _, _, Reason} ->
            error({sleeper, Reason})
    after 30000 ->
        error({no_answer, Question, length(mail(Sleeper))})
    end.

%% @doc Its life. It ends with the process that started it.
-spec init(pid()) -> no_return().
init(Starter) ->
    Monitor = monitor(process, Starter),
    loop(Monitor).

%% Only questions are received here: all other mail stays.
loop(Starter) ->
    receive
        {Tag, From, {take, Ref, N}} when is_pid(From) ->
            From ! {Tag, next(Ref, N)},
            loop(Starter);
        {Tag, From, {take_all, Ref}} when is_pid(From) ->
            From ! {Tag, rest(Ref, [])},
            loop(Starter);
        {'DOWN', Starter, _, _, _} ->
            ok
    end.

next(_Ref, 0) ->
    [];
next(Ref, N) ->
    receive
        {py_stream, Ref, Event} when Event =:= done; element(1, Event) =:= error -> [Event];
        {py_stream, Ref, Event} -> [Event | next(Ref, N - 1)]
    end.

rest(Ref, Values) ->
    receive
        {py_stream, Ref, {data, Value}} -> rest(Ref, [Value | Values]);
        {py_stream, Ref, {batch, Batch}} -> rest(Ref, lists:reverse(Batch, Values));
        {py_stream, Ref, Terminal} -> {lists:reverse(Values), Terminal}
    end.
